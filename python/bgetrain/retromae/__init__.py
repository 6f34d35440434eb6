"""RetroMAE pre-training (Xiao et al. 2022, arXiv 2205.12035): a text has to be rebuilt from its vector.

```
text ─ corrupted ─► encoder ─┬─ masked positions ──────────────► head ─► L_enc
                             └─ c = first token ─► decoder ─► all positions ─► head ─► L_dec
                                                     ▲
            embeddings of the text, c first ─────────┘ each position sees about half of them, never itself
```

- `method`: a run's set-up. `data`: blocks as the loader gives them. `objective`: a batch to its gradient.
- `model`: encoder, head and decoder as one module, and how they are stored.
- `masked_lm`: the transformer with its masked-LM head. `decoder`: streams, visibility, the one layer.
- `projection`: losses over the vocabulary without its logits. `bag_of_words`: the term of DupMAE.
"""

from __future__ import annotations

from bgetrain.retromae.method import PretrainMethod

__all__ = ["PretrainMethod"]
