"""Products to try the store with: as many as wanted, the same ones from the same seed, and believable at a glance."""

from collections.abc import Iterator
from random import Random

from ringcast.product_store.operations import Put

_THINGS = {
    "kitchen": ("Kettle", "Toaster", "Saucepan", "Bread knife", "Salad bowl", "Coffee mill", "Apron", "Whisk"),
    "garden": ("Watering can", "Spade", "Bird table", "Hose", "Seed tray", "Pruning saw", "Lantern", "Bench"),
    "books": ("Atlas", "Cookbook", "Novel", "Dictionary", "Field guide", "Biography", "Songbook", "Almanac"),
    "toys": ("Kite", "Puzzle", "Spinning top", "Doll's house", "Train set", "Yo-yo", "Rocking horse", "Marbles"),
    "clothes": ("Raincoat", "Scarf", "Wool socks", "Straw hat", "Jumper", "Belt", "Slippers", "Gloves"),
    "music": ("Ukulele", "Tambourine", "Harmonica", "Metronome", "Music stand", "Recorder", "Drumsticks", "Cello bow"),
    "tools": ("Hammer", "Spirit level", "Hand drill", "Pliers", "Wood plane", "Vice", "Chisel set", "Tape measure"),
    "sport": ("Football", "Skipping rope", "Tennis racket", "Swim cap", "Yoga mat", "Ice skates", "Dartboard", "Canoe"),
}
_ADJECTIVES = (
    "Small", "Large", "Folding", "Red", "Green", "Blue", "Striped", "Old", "Sturdy", "Light", "Swiss", "Danish",
    "Hand-made", "Children's", "Travel", "Antique",
)  # fmt: skip
_KEYWORDS = (
    "gift", "small", "large", "red", "green", "blue", "wood", "steel", "cotton", "travel", "indoor", "outdoor",
    "antique", "handmade", "kids", "sale",
)  # fmt: skip


def sample_products(count: int, seed: int = 1, sellers: int = 100) -> Iterator[Put]:
    """`count` items of `sellers` sellers; their ids say the seed, so that two seeds can be on sale together."""
    random = Random(seed)
    categories = sorted(_THINGS)
    for number in range(count):
        category = random.choice(categories)
        thing = random.choice(_THINGS[category])
        keywords = (thing.split()[-1].lower()[:8].rstrip("'"), *random.sample(_KEYWORDS, random.randrange(5)))
        yield Put(
            f"s{seed}-{number:07}",
            f"seller-{random.randrange(sellers):03}",
            f"{random.choice(_ADJECTIVES)} {thing.lower()}",
            category,
            tuple(dict.fromkeys(keywords)),
            "used" if random.random() < 0.3 else "new",
            # Most things are cheap and a few are dear, and prices end in a nine.
            round(random.lognormvariate(3, 1)) * 100 + 99,
            1 + min(int(random.expovariate(0.1)), 500),
        )
