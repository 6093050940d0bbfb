"""Turn an imperative sentence of a docstring into the forms that questions and answers need."""

import re

IRREGULAR = {"do": "does", "have": "has", "be": "is", "go": "goes"}
# Second verbs of a sentence that follow the first one's form: "Remove and return" -> "removes and returns".
SECOND = (
    "return pop push drop collect raise wait go count close cache resolve remove overwrite create print show fill add"
)
SECOND_VERB = re.compile(rf"\b(and|then|or) ({'|'.join(SECOND.split())})\b")
IMPERATIVE = re.compile(r"^[A-Z][a-z]+(-[a-z]+)?$")


def third_person(verb: str) -> str:
    """Conjugate a bare verb: "copy" -> "copies"."""
    verb = verb.lower()
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if re.search(r"(s|sh|ch|x|z|o)$", verb):
        return verb + "es"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def predicate(sentence: str) -> str:
    """Turn "Remove and return an item" into "removes and returns an item"."""
    first, _, rest = sentence.partition(" ")
    rest = SECOND_VERB.sub(lambda m: f"{m[1]} {third_person(m[2])}", rest)
    return f"{third_person(first)} {rest}".strip()


def task(sentence: str) -> str:
    """Turn "Return whether the path exists" into what a person wants to do: "find out whether the path exists"."""
    text = sentence[0].lower() + sentence[1:]
    text = re.sub(r"^return (whether|true if) ", "find out whether ", text, flags=re.IGNORECASE)
    text = re.sub(r"^test (whether|if) ", "test whether ", text)
    return re.sub(r"^return ", "get ", text)


def bare(sentence: str) -> str:
    """Turn a docstring's third person into the imperative: "Returns the name" -> "Return the name"."""
    first, _, rest = sentence.partition(" ")
    if not re.fullmatch(r"[A-Z][a-z]+[^s]s", first):
        return sentence
    if first.endswith("ies"):
        return f"{first[:-3]}y {rest}"
    return f"{first[:-2] if re.search(r'(ch|sh|x)es$', first) else first[:-1]} {rest}"
