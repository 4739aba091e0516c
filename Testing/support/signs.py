"""What is written at points, and whether they are negative: the same for every source of clicks."""

SIGNS = [
    # label, description, name of the list, negative
    ("F-1", "", "F", False),
    ("+1", "positive", "clicks", False),
    ("-1", "", "", True),
    ("- liver", "", "", True),
    ("−2", "", "", True),  # noqa: RUF001 - a minus sign
    ("neg", "", "", True),
    ("Negative", "", "", True),
    ("Negative 3", "", "", True),
    ("NEG_2", "", "", True),
    ("neg3", "", "", True),
    ("neg-liver", "", "", True),
    ("negatives", "", "", True),
    ("neglected", "", "", False),
    ("liver-neg", "", "", False),
    ("liver", " Negative ", "", True),
    ("liver", "neg", "", True),
    ("liver", "-", "", True),
    ("liver", "not negative", "", False),
    ("liver", "negative for metastases", "", False),
    ("liver", "", "negative", True),
    ("liver", "", "Negative points", True),
    ("liver", "", "neg_1", True),
    ("liver", "", "neglected", False),
    ("liver", "", "-1", False),
]
