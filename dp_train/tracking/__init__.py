"""What a run leaves for people to look at: MLflow runs, the saved view, the frontier figure, the privacy card.

The only door to MLflow. Nothing here is needed to train; it takes public values and refuses to hold private ones.
"""
