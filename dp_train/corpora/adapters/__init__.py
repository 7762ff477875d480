"""Public corpora as conversations with owners: for experiments and benchmarks, and for no product.

Their people consented to nothing, so `BenchmarkCorpus` brings records of its own, which count under
`ConsentRules.research_only` alone. `chat` cuts a stream of messages into threads, `split` says who belongs to which
population, and there is one file a corpus: `gitter`, `qmsum`, `crd3` (per example alone), `dialogsum` (to score on
alone). People's ids are replaced at load by a hash; their names stand on rosters, where anonymisation finds them.
"""
