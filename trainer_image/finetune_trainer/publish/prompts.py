"""What the trainer's model and the serving engine are both asked. The same for every model, and nobody's data.

Chosen for what goes wrong between two implementations: letters beyond ASCII, digits, runs of blanks, code, a text long
enough for positions to matter, and chats for the template and its special tokens.
"""

from __future__ import annotations

from finetune_api.served import ChatMessage

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "In 1969, 3 people flew 384,400 km to the Moon; it took 4 days, 6 hours and 45 minutes.",
    'def total(rows):\n    return sum(row["price"] * row["count"] for row in rows)\n',
    '{"name": "Zoë", "tags": ["a", "b"], "active": true, "score": -1.5e-3}',
    "Fünf große Übungen: naïve café, señor, Straße, l'été; привет, 你好世界, مرحبا.",
    "  two  spaces,\ttabs,\n\n\nblank lines, and ... punctuation?! (yes) -- 100% & more;",
    "Water boils at a lower temperature on a mountain because the air presses less on its surface. The higher you "
    "climb, the longer it takes to cook an egg, and at some height it will never become hard.",
)
CHATS = (
    (ChatMessage(role="user", content="What is the capital of France?"),),
    (
        ChatMessage(role="user", content="Name a prime number."),
        ChatMessage(role="assistant", content="Seven."),
        ChatMessage(role="user", content="And a larger one?"),
    ),
)
