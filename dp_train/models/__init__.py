"""What is trained: small transformers models from config, and a vocabulary that never saw private text.

`build` makes a model from a `ModelSpec`, `tokenizer` learns a byte-level BPE from public text, `trainable`
chooses which parameters a run may change.
"""
