"""Texts for the tiny demo: support tickets, the answers a triage model should give, and a generic corpus.

The two tasks share their words and nothing else. The base model is pre-trained on the generic corpus (echo a message,
thank for it, list words, write a pair as data), so it knows the vocabulary and the chat format but has never seen a
triage answer: its exact match on held-out tickets is 0 until it is fine-tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

Messages = list[dict[str, str]]

SYSTEM = "Answer with the team and the priority."

SUBJECTS: dict[str, tuple[str, ...]] = {
    "billing": (
        "my invoice shows the wrong amount",
        "I was charged twice this month",
        "the refund has not arrived",
        "the discount code was not applied",
        "my credit card was declined",
        "the tax on the receipt is wrong",
    ),
    "shipping": (
        "the parcel has not arrived",
        "the courier left the box at the wrong door",
        "my tracking number does not work",
        "the delivery is two weeks late",
        "the package came back to the warehouse",
        "half of the shipment is missing",
    ),
    "mobile": (
        "the app crashes when I open settings",
        "the phone app shows a blank screen",
        "push notifications stopped on my tablet",
        "the app drains my battery",
        "the android version will not install",
        "swiping back freezes the app",
    ),
    "account": (
        "I cannot reset my password",
        "the login page rejects my email",
        "my profile was locked",
        "the two factor code never comes",
        "I want to change my user name",
        "somebody else signed in as me",
    ),
    "hardware": (
        "the charger gets very hot",
        "the screen of the device is cracked",
        "the fan makes a loud noise",
        "the power button is stuck",
        "the cable is broken at the plug",
        "the keyboard has dead keys",
    ),
    "sales": (
        "I would like a quote for fifty seats",
        "do you offer a plan for schools",
        "what does the yearly licence cost",
        "can we upgrade to the business tier",
        "I need a demo for my manager",
        "is there a partner program",
    ),
}
URGENCY: dict[str, tuple[str, ...]] = {
    "high": (
        "please hurry, customers are waiting",
        "this is urgent",
        "we are losing money every hour",
        "I need this fixed today",
        "everything has stopped here",
    ),
    "normal": (
        "please have a look this week",
        "I hope you can help soon",
        "let me know what to do",
        "thanks for checking it",
        "please reply when you can",
    ),
    "low": (
        "there is no rush at all",
        "whenever you find the time",
        "this can wait until next month",
        "it is only a small thing",
        "just a question for later",
    ),
}
OPENINGS = ("Hi", "Hello", "Good morning", "Dear team", "Hey there", "Good evening", "Hello again", "Greetings")
NAMES = ("Ada", "Ben", "Chloe", "Dan", "Eva", "Finn", "Grace", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Noah")
VERBS = ("Repeat", "Echo", "Say again", "Copy")
MOODS = ("Thank you", "Many thanks", "Thanks")
KEYS = ("team", "priority", "name", "subject", "answer")
SYSTEMS = ("Be kind.", "Answer in one sentence.", "Answer with data.", "Name the team.", "Name the priority.")


def ticket(rng: Random) -> tuple[str, str, str, str]:
    """(text, subject phrase, team, priority)."""
    team = rng.choice(sorted(SUBJECTS))
    priority = rng.choice(sorted(URGENCY))
    subject, urgency = rng.choice(SUBJECTS[team]), rng.choice(URGENCY[priority])
    parts = [f"{rng.choice(OPENINGS)}, {subject}", urgency]
    if rng.random() < 0.5:
        parts.append(f"regards, {rng.choice(NAMES)}")
    return ". ".join(parts) + ".", subject, team, priority


def triage(rng: Random) -> Messages:
    """One record of the task that is fine-tuned."""
    text, _, team, priority = ticket(rng)
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": text},
        {"role": "assistant", "content": f'{{"team": "{team}", "priority": "{priority}"}}'},
    ]


def generic(rng: Random) -> Messages:
    """One record of the corpus the base model is pre-trained on; no triage answer among them."""
    text, subject, _, _ = ticket(rng)
    kind = rng.randrange(4)
    if kind == 0:
        name = rng.choice(NAMES)
        user = f"{rng.choice(VERBS)}: {subject}, {name}."
        answer = f"{subject}, {name}."
    elif kind == 1:
        user, answer = text, f"{rng.choice(MOODS)} for writing. You say that {subject}."
    elif kind == 2:
        words = rng.sample(
            [w for group in (*SUBJECTS.values(), *URGENCY.values()) for p in group for w in p.split()], 5
        )
        user, answer = "Make a list: " + " ".join(words), ", ".join(f'"{word}"' for word in words)
    else:
        key, value = rng.choice(KEYS), rng.choice([*SUBJECTS, *URGENCY, *NAMES])
        user, answer = f"Write {key} and {value} as data.", f'{{"{key}": "{value}"}}'
    system = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.5 else []
    return [*system, {"role": "user", "content": user}, {"role": "assistant", "content": answer}]


def distinct_triage(seed: int, count: int) -> Iterator[Messages]:
    """`count` records with distinct tickets, the same for the same seed."""
    rng = Random(seed)  # noqa: S311 - texts, not secrets
    seen: set[str] = set()
    while len(seen) < count:
        messages = triage(rng)
        if messages[1]["content"] not in seen:
            seen.add(messages[1]["content"])
            yield messages
