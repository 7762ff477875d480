"""Attacks on a trainer and on what it trained: a measured figure beside each claim (docs/audit.md)."""
