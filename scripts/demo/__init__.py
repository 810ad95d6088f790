"""The bundled demo model: procedural scenes, a tokenizer, a tiny PaliGemma 2, its training and
its export. Entry point: scripts/train_demo.py."""
