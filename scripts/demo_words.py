"""Words, names and other fillers of the demo model's conversations, and the split that keeps some of them for testing."""

import hashlib
import random

from demo_tokenizer import CAPITALIZED, SPACED

WORDS = """
able acorn actor again agent alarm album alley amber angle ankle apple april apron arena arrow artist atlas autumn awake
bacon badge baker ball banana bank basket beach bead beam bean bear beast bell berry bike bird blanket blue board boat
bone book boot border bottle bowl box brain branch brave bread brick bridge bright broom brother brown brush bucket
butter button cabin cable cake camel camera candle canyon carbon card carpet carrot castle cat cave cedar chain chair
chalk cherry chess child circle circus city clay cliff clock cloud clover coal coast coat cobra coffee coin comet copper
coral corn cotton cousin cow crab crane cream creek crown cup curtain dance dawn deer desert desk diamond dinner doctor
dog dolphin door dragon dream dress drum duck dust eagle early earth east echo egg elbow elephant empty engine evening
fabric face falcon family farm feather fence fern field finger fire fish flag flame flower flute forest fork fox fresh
friend frog fruit garden garlic gate ghost giant ginger glass globe glove goat gold goose grain grape grass green guitar
hammer hand harbor hat hawk hazel heart hedge hello hill honey hood horse hotel house ice igloo ink insect iron island
ivory jacket jaguar jam jar jelly jewel jungle kettle key king kitchen kite kitten knee knife ladder lake lamp lantern
leaf lemon lesson letter light lily linen lion lizard lunch magnet mango maple marble market meadow melon metal milk
mirror mist monkey moon morning moss mountain mouse museum music nail napkin needle nest night noodle north nurse oak
ocean olive onion orange orchid otter oven owl oyster paint palace panda paper parrot peach pearl pebble pencil penny
pepper piano picnic pilot pine pizza planet plate plum pocket poem pond pony potato prince puzzle quail queen quiet
quilt rabbit radio rain raven ribbon rice ring river robin rocket roof room rope rose ruby sail salad salt sand sandal
scarf school seal season seed shadow sheep shell ship shirt silk silver sister sky snail snow soap sofa soup spider
spoon spring squirrel stamp star steam stone storm story straw street sugar summer sun swan sweet table tailor teacher
temple tent thread thunder ticket tiger toast tomato tower train tree trumpet tulip tunnel turtle umbrella uncle valley
vase velvet village violet violin wagon walnut water wave whale wheat wheel whistle willow window winter wolf wood
yellow yogurt zebra zero
""".split()
NAMES = """
Alice Anna Ben Bella Carl Clara Daniel Dora Emil Emma Felix Flora Greta Hanna Hugo Ida Ivan Jakob Julia Karl Lena Leo
Lina Lukas Mara Maria Max Mia Nils Nina Olga Oskar Paul Petra Rosa Rudi Sara Simon Tina Tom Vera Viktor Wanda Zoe
""".split()
CITIES = """
Berlin Bonn Boston Cairo Dublin Essen Genoa Geneva Lagos Lima Lisbon London Lyon Madrid Milan Oslo Paris Prague Quito
Riga Rome Seoul Sofia Tokyo Turin Vienna Warsaw Zurich
""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLORS = "red green blue yellow black white brown pink gray orange".split()
ANIMALS = "cat dog horse rabbit parrot turtle hamster pony goat".split()

ONSETS = "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr pl pr sc sh sk sl sn sp st str th tr tw wh".split()
VOWELS = "a e i o u a e i o u ai ea ee oo ou oa io".split()
CODAS = "b d ck ff g ll l m mm n nd ng nt p r rd rm rn s ss st t tt x ys".split() + [""] * 18


def pseudo_word(rng):
    """A pronounceable word nobody has to know, 3 to 9 letters long."""
    while True:
        if rng.random() < 0.12:
            word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 7)))
        else:
            word = "".join(rng.choice(ONSETS) * (rng.random() < 0.9) + rng.choice(VOWELS) + rng.choice(CODAS)
                           for _ in range(rng.choice([1, 2, 2, 2, 3])))
        if 3 <= len(word) <= 9:
            return word


# Words may begin with a piece of the vocabulary (" the", "Que"), whose letters are learned only where it is spelled.
BEGINNINGS = sorted({word[:end].lower() for word in (SPACED + CAPITALIZED).split() for end in range(3, min(len(word), 7) + 1)})


def held_out(*parts):
    """True for one item in eight, by its hash: such words and operands are never trained on, and only they are tested."""
    text = "|".join(str(part) for part in parts).lower()
    return hashlib.sha1(text.encode()).digest()[0] % 8 == 0


class Source:
    """Draws fillers from one side of the split only."""

    def __init__(self, seed, testing=False):
        self.rng = random.Random(seed)
        self.testing = testing

    def draw(self, make):
        while True:
            item = make()
            parts = item if isinstance(item, tuple) else (item,)
            if held_out(*parts) == self.testing:
                return item

    def choice(self, options):
        return self.rng.choice(options)

    def chance(self, probability):
        return self.rng.random() < probability

    def word(self, longest=9):
        def make():
            while True:
                word = self.rng.choice(WORDS) if self.rng.random() < (0.7 if self.testing else 0.35) else self.made_up()
                if len(word) <= longest:
                    return word

        return self.draw(make)

    def made_up(self):
        """A word nobody has to know; while training, half begin like an entry of the vocabulary, and one in five doubles a letter."""
        word = pseudo_word(self.rng)
        if self.testing:
            return word
        if self.rng.random() < 0.5:  # perhaps the piece alone
            word = self.rng.choice(BEGINNINGS) + word[self.rng.randint(0, len(word)):]
        if self.rng.random() < 0.2:
            at = self.rng.randrange(len(word))
            word = word[:at] + word[at] + word[at:]
        return word[:9]

    def varied(self, name):
        """The name; while training, one in five is told by its declaration alone."""
        return f"{name}_{pseudo_word(self.rng)}" if not self.testing and self.rng.random() < 0.2 else name

    def name(self):
        return self.draw(lambda: self.rng.choice(NAMES) if self.rng.random() < 0.5 else self.made_up().capitalize())

    def city(self):
        return self.draw(lambda: self.rng.choice(CITIES) if self.rng.random() < 0.6 else self.made_up().capitalize())

    def number(self, digits=3):
        return self.rng.randint(0, 10 ** self.rng.randint(1, digits) - 1)

    def operands(self, operation):
        """Two numbers, mostly up to three digits; one in twelve pairs has up to five."""

        def make():
            digits = 5 if not self.testing and self.rng.random() < 1 / 12 else 3
            if self.rng.random() < 0.55:
                a, b = self.rng.randint(0, 999), self.rng.randint(0, 999)
            else:
                a, b = self.number(digits), self.number(digits)
            if operation == "-" and self.rng.random() < 0.15:  # close numbers, whose difference starts with zeros
                b = max(0, a - self.rng.randint(0, 20))
            if operation == "-" and a < b and self.rng.random() < 0.75:
                a, b = b, a
            return (operation, a, b)

        return self.draw(make)[1:]
