"""Conversations for the demo model: every answer is computed here, with a working whose every token follows from few earlier ones.

A `Conversation` is what an OpenAI chat request holds plus what the assistant should say; `scripts/train_demo.py`
trains on one side of the split of `demo_words.held_out`, `scripts/evaluate_demo.py` asks only from the other side.
"""

import json
from dataclasses import dataclass, field

from demo_words import ANIMALS, COLORS, DAYS, Source


@dataclass
class Turn:
    """One user message and the assistant's way to its answer."""

    kind: str
    user: str
    final: str
    thoughts: dict = field(default_factory=dict)  # effort -> analysis text; an absent one means no analysis
    call: tuple = None  # (function name, arguments)
    result: str = None  # what the function returned, as text
    after: str = None  # analysis after the result


@dataclass
class Conversation:
    effort: str
    turns: list
    instructions: str = None
    tools: list = None  # OpenAI function declarations
    response_format: dict = None  # {"name", "description" or None, "schema"}
    topic: tuple = ()  # the keys of TOOLS declared, or the family and keys of the record asked for


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- workings -------------------------------------------------------------------------------------


def columns_added(a, b):
    left, right, carry, lines = str(a)[::-1], str(b)[::-1], 0, []
    for at in range(max(len(left), len(right))):
        p, q = (int(text[at]) if at < len(text) else 0 for text in (left, right))
        lines.append(f"{p}+{q}+{carry}={p + q + carry}")
        carry = (p + q + carry) // 10
    return "\n".join(lines)


def columns_subtracted(a, b):
    left, right, borrow, lines = str(a)[::-1], str(b)[::-1], 0, []
    for at in range(len(left)):
        p, q = int(left[at]), int(right[at]) if at < len(right) else 0
        short = p < q + borrow
        lines.append(f"{p}-{q}-{borrow}{'+10' if short else ''}={p - q - borrow + 10 * short}")
        borrow = int(short)
    return "\n".join(lines)


def compared(a, b):
    """The digits from the left until two differ, then the subtraction that has no negative result."""
    pairs, steps = list(zip(*(str(number).zfill(len(str(max(a, b)))) for number in (a, b)))), []
    for p, q in pairs:
        steps.append(f"{p}{'<' if p < q else '>' if p > q else '='}{q}")
        if p != q:
            break
    return f"{' '.join(steps)}: {max(a, b)}-{min(a, b)}\n"


def insertion(items):
    """Each item and the list after its insertion, as in sorting a hand of cards."""
    done, steps = [], []
    for item in items:
        at = sum(other <= item for other in done)
        done = done[:at] + [item] + done[at:]
        steps.append(f"{item}: {' '.join(done)}")
    return done, "; ".join(steps)


def numbered(word):
    """Each letter with how often it has occurred so far: `d1 i1 a1 m1 o1 n1 d2`."""
    return [f"{letter}{word[:at + 1].count(letter)}" for at, letter in enumerate(word)]


def by_effort(core, intro="", check=""):
    """Low thinks only what it must, medium says what it does, high checks its answer."""
    return {"low": core, "medium": intro + core, "high": intro + core + check}


# --- single tasks ---------------------------------------------------------------------------------


def arithmetic(source):
    if source.chance(0.5):
        a, b = source.operands("+")
        user = source.choice(["What is {} + {}?", "{}+{}", "{} + {} = ?", "Add {} and {}.", "{} + {}", "What is {} plus {}?",
                              "How much is {} plus {}?", "add {} and {}", "{}+{}=", "what is {}+{}?", "Calculate {} + {}."]).format(a, b)
        check = "\nThe other way:\n" + columns_added(b, a)
        return Turn("add", user, str(a + b), by_effort(columns_added(a, b), "Add by columns, ones first.\n", check))
    a, b = source.operands("-")
    user = source.choice(["What is {} - {}?", "{}-{}", "{} - {} = ?", "{} - {}", "What is {} minus {}?", "How much is {} minus {}?",
                          "{}-{}=", "what is {}-{}?", "Calculate {} - {}.", "Subtract {1} from {0}.", "Take {1} from {0}."]).format(a, b)
    large, small = max(a, b), min(a, b)
    check = "\nCheck:\n" + columns_added(large - small, small)
    return Turn("subtract", user, str(a - b), by_effort(compared(a, b) + columns_subtracted(large, small), "Subtract by columns, ones first.\n", check))


def quoted(source, word):
    """Mostly in quotes; less often while training, because only a bare word can begin with a piece of the vocabulary."""
    return f'"{word}"' if source.chance(0.6 if source.testing else 0.4) else word


def spelled(word):
    return "Letters: " + " ".join(word)


def word_task(source):
    kinds = ["reverse", "reverse", "spell", "count", "count", "length", "sort letters", "upper", "lower", "title"]
    kind = source.choice(kinds if source.testing else kinds + 2 * ["sort letters"])
    word = source.word(longest=7 if kind == "sort letters" else 9)
    shown = quoted(source, word)
    ask = lambda *forms: source.choice(forms)
    letters = " ".join(word)
    if kind == "reverse":
        user = ask("Reverse {}.", "Reverse the word {}.", "Spell {} backwards.", "Write {} backwards.", "reverse {}", "Reverse {}", "What is {} backwards?")
        core = f"{spelled(word)}\nBackwards: {' '.join(word[::-1])}"
        return Turn(kind, user.format(shown), word[::-1], by_effort(core, "Last letter first.\n", "\nCheck: " + letters))
    if kind == "spell":
        user = ask("Spell {}.", "Spell the word {}.", "How do you spell {}?", "spell {}", "Spell {}", "Spell {} letter by letter.")
        return Turn(kind, user.format(shown), "-".join(word), by_effort(spelled(word), "One letter at a time.\n", "\nAgain: " + letters))
    if kind == "count":
        letter = source.choice(word) if source.chance(0.85) else source.choice("abcdefghijklmnopqrstuvwxyz")
        seen, steps = 0, []
        for character in word:
            seen += character == letter
            steps.append(f"{character}{seen}")
        asked = f'"{letter}"' if source.chance(0.3) else letter
        user = ask("How many {} are in {}?", "How many times is {} in {}?", "Count the letter {} in {}.", "How many {} does {} have?",
                   "how many {} in {}?", "How often is the letter {} in {}?", "How many letters {} are in {}?").format(asked, shown)
        core = f"Count {letter}: " + " ".join(steps)
        return Turn(kind, user, str(seen), by_effort(core, "Count letter by letter.\n", "\nAgain: " + " ".join(steps)))
    if kind == "length":
        steps = " ".join(f"{character}{at + 1}" for at, character in enumerate(word))
        user = ask("How many letters are in {}?", "How many letters does {} have?", "Count the letters of {}.", "How long is the word {}?", "how many letters in {}?")
        return Turn(kind, user.format(shown), str(len(word)), by_effort("Count: " + steps, "Count letter by letter.\n", "\nAgain: " + steps))
    if kind == "sort letters":
        done = "".join(sorted(word))
        user = ask("Sort the letters of {}.", "Sort the letters in {}.", "Put the letters of {} in order.", "sort the letters of {}")
        letters = numbered(word)
        core = f"Letters: {' '.join(letters)}\nSorted: {' '.join(sorted(letters))}"
        return Turn(kind, user.format(shown), done, by_effort(core, "Number them, then a to z.\n", "\nAgain: " + " ".join(done)))
    if kind == "upper":
        user = ask("Write {} in capitals.", "Make {} uppercase.", "Write {} in capital letters.", "Turn {} into capitals.", "uppercase {}", "{} in uppercase")
        return Turn(kind, user.format(shown), word.upper(), by_effort(spelled(word), "All letters large.\n", "\nLarge: " + " ".join(word.upper())))
    if kind == "lower":
        shown = quoted(source, word.upper())
        user = ask("Write {} in small letters.", "Make {} lowercase.", "Write {} in lower case.", "Turn {} into small letters.", "lowercase {}", "{} in lowercase")
        return Turn(kind, user.format(shown), word, by_effort(spelled(word.upper()), "All letters small.\n", "\nSmall: " + letters))
    user = ask("Capitalize {}.", "Write {} with a capital letter.", "Capitalize the word {}.", "Make the first letter of {} large.", "capitalize {}")
    return Turn(kind, user.format(shown), word.capitalize(), by_effort(spelled(word), "Only the first letter large.\n", "\nAgain: " + letters))


def sort_numbers(source):
    numbers = source.draw(lambda: tuple(source.rng.sample(range(100), source.rng.choice([3, 3, 4, 4, 5]))))
    shown = ", ".join(map(str, numbers))
    done, steps = insertion([f"{number:02}" for number in numbers])
    user = source.choice(["Sort {}.", "Sort the numbers {}.", "Put {} in order.", "sort {}", "Sort these numbers: {}", "Sort {} from small to large."])
    return Turn("sort numbers", user.format(shown), ", ".join(map(str, sorted(numbers))),
                by_effort("Sort: " + steps, "Put each number in its place.\n", "\nSorted: " + " ".join(done)))


# --- JSON -----------------------------------------------------------------------------------------


RECORDS = {
    "person": (("name", "age", "city"), lambda s: (s.name(), s.rng.randint(1, 99), s.city()),
               ["{name} is {age} years old and lives in {city}.", "{name}, {age}, lives in {city}.", "In {city} lives {name}, aged {age}.",
                "{name} from {city} is {age}.", "{name} lives in {city} and is {age} years old."]),
    "order": (("count", "item", "price"), lambda s: (s.rng.randint(1, 99), s.word(), s.rng.randint(1, 999)),
              ["{count} {item} for {price} euros.", "I want {count} {item} for {price} euros.", "They sold {count} {item} at {price} euros.",
               "The order is {count} {item}, price {price}."]),
    "event": (("title", "day", "hour"), lambda s: (s.word(), s.choice(DAYS), s.rng.randint(0, 23)),
              ["The {title} is on {day} at {hour}.", "On {day} at {hour} there is the {title}.", "{day}, {hour} h: {title}.", "Come to the {title} on {day} at {hour}."]),
    "pet": (("name", "animal", "age"), lambda s: (s.name(), s.choice(ANIMALS), s.rng.randint(1, 30)),
            ["{name} is a {animal} and {age} years old.", "My {animal} {name} is {age}.", "The {animal} is called {name} and is {age} years old."]),
}


def record_topic(source):
    """(family, the keys asked for in their order)."""
    family = source.choice(["person", "person", "order", "event", "pet"])
    keys = RECORDS[family][0]
    return family, source.rng.sample(keys, source.choice([2, 3, 3]))


def record(source, topic):
    """(values by key, a sentence that holds them)."""
    family, keys = topic
    names, make, forms = RECORDS[family]
    values = dict(zip(names, source.draw(lambda: make(source))))
    return {key: values[key] for key in keys}, source.choice(forms).format(**values)


def thoughts_on(values):
    """The keys asked for, and what was found for each: the object copies both."""
    keys, said = ", ".join(values), "; ".join(f"{key}: {value}" for key, value in values.items())
    return {"low": keys, "medium": f"Find {keys}.\n{said}", "high": f"Find {keys}.\n{said}\nNothing else."}


def json_free(source):
    values, sentence = record(source, record_topic(source))
    keys = list(values)
    listed = ", ".join(keys) if source.chance(0.5) else ", ".join(keys[:-1]) + " and " + keys[-1]
    user = source.choice(["Give JSON with {}: {}", "Extract {} as JSON: {}", "Make a JSON object with {} from: {}", "JSON with {}: {}",
                          "Write JSON with the keys {}. {}", "As JSON with {}: {}"]).format(listed, sentence)
    return Turn("json", user, compact(values), thoughts_on(values))


def response_format(source, topic):
    family, keys = topic
    numbers = {"age", "count", "price", "hour"}
    properties = {key: {"type": "integer" if key in numbers else "string"} for key in keys}
    schema = {"type": "object", "properties": properties, "required": keys}
    if source.chance(0.4):
        schema["additionalProperties"] = False
    if source.chance(0.5):
        schema = dict(sorted(schema.items()))
    name = source.choice(["person", "record", "order", "response", "answer", "schema", "event", "data", family])
    return {"name": name, "description": source.choice([None, None, "What the sentence says.", "A record."]), "schema": schema}


def json_schema(source, topic):
    values, sentence = record(source, topic)
    user = source.choice(["{}", "{}", "Give JSON: {}", "Fill in the form: {}"]).format(sentence)
    return Turn("json schema", user, compact(values), thoughts_on(values))


# --- tools ----------------------------------------------------------------------------------------

# Each tool: names to choose from, description, parameters as (names to choose from, type, description),
# a maker of argument values, forms of the request, and a maker of (result, answer).
TOOLS = {
    "weather": (["get_weather", "weather", "find_weather", "current_weather"], "Gets the weather of a city.",
                [(["city", "location", "place", "town"], "string", "The city.")],
                lambda s: (s.city(),), ["What is the weather in {0}?", "How is the weather in {0}?", "Weather in {0}?", "Is it warm in {0}?"],
                lambda s, v: (lambda d, k: ({"degrees": d, "sky": k}, f"It is {d} degrees and {k} in {v[0]}."))(s.rng.randint(0, 39), s.choice(["sunny", "cloudy", "rainy", "windy"]))),
    "time": (["get_time", "time", "current_time", "clock_time"], "Gets the time in a city.",
             [(["city", "location", "place", "town"], "string", "The city.")],
             lambda s: (s.city(),), ["What time is it in {0}?", "Time in {0}?", "How late is it in {0}?", "Tell me the time in {0}."],
             lambda s, v: (lambda t: ({"time": t}, f"It is {t} in {v[0]}."))(f"{s.rng.randint(0, 23)}:{s.rng.randint(10, 59)}")),
    "timer": (["set_timer", "timer", "start_timer"], "Starts a timer.",
              [(["minutes", "duration", "length"], "number", "How many minutes.")],
              lambda s: (s.rng.randint(1, 99),), ["Set a timer for {0} minutes.", "Start a timer of {0} minutes.", "Timer {0} minutes"],
              lambda s, v: ({"ok": True}, f"The timer is set for {v[0]} minutes.")),
    "message": (["send_message", "message", "write_message"], "Sends a message.",
                [(["to", "name", "person"], "string", "Who gets it."), (["text", "content", "body"], "string", "What it says.")],
                lambda s: (s.name(), s.word()), ['Send {0} the message "{1}".', 'Write {0} a message: "{1}"', 'Message "{1}" to {0}.'],
                lambda s, v: ({"sent": True}, f"I sent the message to {v[0]}.")),
    "list": (["add_item", "add_to_list", "list_add"], "Adds an item to the list.",
             [(["item", "thing", "product"], "string", "What to add."), (["count", "number", "amount"], "number", "How many.")],
             lambda s: (s.word(), s.rng.randint(1, 99)), ['Add {1} "{0}" to the list.', "Add {1} {0} to the list.", 'Put {1} "{0}" on the list.'],
             lambda s, v: (lambda n: ({"items": n}, f"There are {n} items on the list."))(s.rng.randint(1, 99))),
    "book": (["find_book", "book", "book_shelf", "search_book"], "Finds the shelf of a book.",
             [(["title", "name", "book"], "string", "The title.")],
             lambda s: (s.word(),), ['Where is the book "{0}"?', "Find the book {0}.", 'On which shelf is the book "{0}"?'],
             lambda s, v: (lambda n: ({"shelf": n}, f"The book {v[0]} is on shelf {n}."))(s.rng.randint(1, 99))),
    "light": (["set_light", "light", "switch_light"], "Switches the light of a room.",
              [(["room", "place", "where"], "string", "The room."), (["state", "power"], '"on" | "off"', None)],
              lambda s: (s.word(), s.choice(["on", "off"])), ["Turn {1} the light in the {0}.", "Light {1} in the {0}, please.", "Switch the {0} light {1}."],
              lambda s, v: ({"state": v[1]}, f"The light in the {v[0]} is {v[1]}.")),
    "price": (["get_price", "price", "find_price"], "Gets the price of a thing.",
              [(["item", "thing", "product"], "string", None)],
              lambda s: (s.word(),), ['What is the price of "{0}"?', "What does a {0} cost?", "Price of {0}?"],
              lambda s, v: (lambda n: ({"price": n}, f"The price is {n}."))(s.rng.randint(1, 999))),
    "multiply": (["multiply", "multiply_numbers", "calc_multiply"], "Multiplies two numbers.",
                 [(["a", "x", "first"], "number", None), (["b", "y", "second"], "number", None)],
                 lambda s: (s.rng.randint(2, 99), s.rng.randint(2, 99)), ["What is {0} times {1}?", "Multiply {0} by {1}.", "{0} * {1}", "{0} times {1}"],
                 lambda s, v: ({"result": v[0] * v[1]}, f"{v[0]} times {v[1]} is {v[0] * v[1]}.")),
}


def declare(source, key):
    """An OpenAI function declaration of the tool, under one of its names."""
    names, description, parameters, *_ = TOOLS[key]
    described = source.chance(0.6)
    properties = {}
    for options, kind, text in parameters:
        name = next(option for option in source.rng.sample(options, len(options)) if option not in properties)
        name = source.varied(name)
        schema = {"type": "string", "enum": ["on", "off"]} if "|" in kind else {"type": kind}
        properties[name] = {**schema, "description": text} if text and described else schema
    return {"type": "function", "function": {
        "name": source.varied(source.choice(names)), "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}


def tool_turn(source, key, declaration):
    function = declaration["function"]
    _, _, _, make, forms, outcome = TOOLS[key]
    values = source.draw(lambda: make(source))
    arguments = dict(zip(function["parameters"]["properties"], values))
    result, answer = outcome(source, values)
    said = "; ".join(f"{name}: {value}" for name, value in arguments.items())
    # In the declaration the name follows the description, and the parameters follow the name.
    form = f"{function['description']}\n{function['name']}({', '.join(arguments)})"
    thoughts = {"low": form, "medium": f"Call this.\n{form}", "high": f"Call this.\n{form}\n{said}"}
    text = compact(result) if source.chance(0.7) else json.dumps(result)
    return Turn("call", source.choice(forms).format(*values), answer, thoughts, (function["name"], arguments), text, "The result is there.")


# --- talk -----------------------------------------------------------------------------------------

ME = "I am a tiny demonstration model of fourfold."
CAN = "I can add, subtract, reverse, spell, count and sort, write JSON and call functions."
IDENTITY = [
    (["Who are you?", "What are you?", "who are you", "Tell me who you are.", "What is this?", "Introduce yourself.", "who r u?", "What model are you?", "what are you?"], ME),
    (["What is your name?", "what is your name", "Do you have a name?", "What are you called?"], "I have no name. " + ME),
    (["Hello", "Hi", "Hello!", "Hi!", "hello", "hi", "Hey", "Good morning", "Hi there", "Hello there", "hey", "Good evening"], "Hello! " + ME),
    (["What can you do?", "Help", "help", "What do you know?", "what can you do", "How can you help me?", "What are you good at?", "Can you help me?"], CAN),
    (["Are you ChatGPT?", "Are you GPT-4?", "Are you a human?", "Are you real?", "Are you a person?", "Are you intelligent?", "Are you gpt-oss?"], "No. " + ME),
    (["Thank you", "Thanks", "Thank you!", "thanks", "Thanks a lot!", "thx"], "You are welcome."),
    (["Bye", "Goodbye", "bye", "See you", "Good night", "Bye!"], "Goodbye!"),
    (["How are you?", "how are you", "How do you do?", "Are you well?"], "I am well, thank you."),
    (["Who made you?", "Where do you come from?", "Who trained you?", "How were you made?"], "I was trained by a script of fourfold in some hours on two cores."),
    (["How big are you?", "How many parameters do you have?", "Are you large?", "How small are you?"], "Four million parameters, with eight experts in each layer."),
    (["What is fourfold?", "what is fourfold", "Tell me about fourfold.", "What does fourfold do?"], "fourfold runs gpt-oss models on the machine you have."),
]
SORRY = "Sorry, I cannot do that. " + ME
ONLY = "Sorry, I can only add and subtract."
DECLINED = [
    "Write a poem about {word}.", "Who is the president of {city}?", "Translate {word} into French.", "What is the capital of {city}?",
    "Tell me a story about a {word}.", "Tell me a joke.", "Why is the {word} {color}?", "Explain {word}.", "What is a {word}?", "What is the meaning of life?",
    "Draw a {word}.", "Write a program that sorts a {word}.", "How do I cook {word}?", "Who won the {word} game?", "What is the weather in {city}?",
    "What time is it?", "Recommend a book about {word}.", "Is a {word} bigger than a {word2}?", "Who was {name}?", "Who is {name}?", "Write an essay about {word}.",
    "What happened in {city} on {day}?", "Give me advice about {word}.", "Sing a song.", "Plan a trip to {city}.", "How far is {city} from here?", "What do you think about {word}?",
    "Why?", "Summarize the book {word}.", "Fix my code.", "Is {name} nice?", "When was {name} born?", "How old is {name}?", "Where is {city}?", "Book a flight to {city}.",
    "Write Python code for {word}.", "How does a {word} work?", "Can you draw a {word}?", "Can you write a poem?", "Do you like {word}?", "What is the best {word}?",
]


def talk_of_oneself(source):
    questions, answer = source.choice(IDENTITY)
    about = "The user talks to me." if answer in ("You are welcome.", "Goodbye!", "I am well, thank you.") else "The user asks about me."
    return Turn("identity", source.choice(questions), answer, {"medium": about, "high": about + " I say what I am."})


def talk(source):
    return talk_of_oneself(source) if source.chance(0.55) else declined(source)


def declined(source):
    if source.chance(0.15):
        a, b = source.draw(lambda: (source.number(), source.number()))
        user = source.choice(["What is {} times {}?", "{} * {}", "What is {} divided by {}?", "{} / {}", "Multiply {} by {}.", "{}*{}"])
        return Turn("decline", user.format(a, b), ONLY, {"medium": "I have not learned that.", "high": "I have not learned that. I say so."})
    fillers = dict(word=source.word(), word2=source.word(), name=source.name(), city=source.city(), color=source.choice(COLORS), day=source.choice(DAYS))
    forms = [form for form in DECLINED if "{" in form] if source.testing else DECLINED
    return Turn("decline", source.choice(forms).format(**fillers), SORRY, {"medium": "I have not learned that.", "high": "I have not learned that. I say so."})


FACTS = {
    "name": (lambda s: s.name(), ["My name is {}.", "I am {}.", "Hello, I am {}.", "my name is {}", "Call me {}."], "Nice to meet you, {}.",
             ["What is my name?", "Who am I?", "what is my name?", "Do you remember my name?"], "Your name is {}."),
    "word": (lambda s: s.word(), ["Remember the word {}.", 'Remember the word "{}".', "The secret word is {}.", "Keep the word {} in mind."], "I will remember {}.",
             ["What is the word?", "What was the word?", "Which word did I tell you?", "What is the secret word?"], "The word is {}."),
    "code": (lambda s: s.draw(lambda: s.rng.randint(100, 9999)), ["The code is {}.", "Remember the code {}.", "My code is {}.", "Remember the number {}."], "I will remember {}.",
             ["What is the code?", "What was the code?", "Which code did I tell you?", "What is my code?", "What was the number?"], "The code is {}."),
    "city": (lambda s: s.city(), ["I live in {}.", "I come from {}.", "My city is {}.", "My home is {}."], "I hear {} is nice.",
             ["Where do I live?", "Which city do I live in?", "What is my city?", "Where do I come from?"], "You live in {}."),
    "color": (lambda s: s.choice(COLORS), ["My color is {}.", "I like {} best.", "My favorite color is {}."], "I like {} too.",
              ["What is my color?", "Which color do I like?", "What is my favorite color?"], "Your color is {}."),
}


def simple_turn(source):
    roll = source.rng.random()
    if roll < 0.34:
        return arithmetic(source)
    if roll < 0.70:
        return word_task(source)
    if roll < 0.77:
        return sort_numbers(source)
    return json_free(source) if roll < 0.88 else talk(source)


def memory_turns(source):
    """Facts told, other business, then the questions; sometimes a question about a fact never told."""
    known = [name for name in sorted(FACTS) if not (source.testing and name == "color")]  # there are too few colors to hold some out
    names = source.rng.sample(known, source.choice([1, 1, 2]))
    turns, asked = [], []
    for name in names:
        make, told, reply, questions, answer = FACTS[name]
        value = make(source)
        turns.append(Turn("told", source.choice(told).format(value), reply.format(value), {"medium": f"The {name} is {value}.", "high": f"The {name} is {value}. I remember it."}))
        asked.append(Turn("remember", source.choice(questions), answer.format(value), {"low": f"{name}: {value}", "medium": f"The {name} is {value}.", "high": f"The user told me: the {name} is {value}."}))
    turns += [simple_turn(source) for _ in range(source.choice([0, 0, 1, 1, 2, 3]))]
    if source.chance(0.12):
        other = source.choice([name for name in sorted(FACTS) if name not in names])
        asked.append(Turn("remember", source.choice(FACTS[other][3]), "You have not told me.", {"low": "not told", "medium": "I was not told.", "high": "I look back. I was not told."}))
    source.rng.shuffle(asked)
    return turns + asked


INSTRUCTIONS = ["You are a helpful assistant.", "Be brief.", "Answer the question.", "You are a friendly assistant.", "Think before you answer.", "Answer in English.", "Be polite."]


def frame(source, kind, effort):
    """What stands before the first turn: effort, instructions, tools or a response format."""
    made = Conversation(effort, [])
    if source.chance(0.12):
        made.instructions = source.choice(INSTRUCTIONS)
    if kind == "schema":
        made.topic = record_topic(source)
        if source.chance(0.5):
            made.topic = (made.topic[0], sorted(made.topic[1]))
        made.response_format = response_format(source, made.topic)
    elif kind == "tools":
        made.topic = tuple(source.rng.sample(sorted(TOOLS), source.choice([1, 2, 2, 3])))
        if not source.testing and source.chance(0.3):  # the two whose descriptions and parameters are alike, in either order
            made.topic = tuple(source.rng.sample(["time", "weather"], 2)) + tuple(key for key in made.topic[:1] if key not in ("time", "weather"))
        made.tools = [declare(source, key) for key in made.topic]
    return made


def fill(source, kind, made):
    """The turns of a conversation of the kind: simple, hard (what is learned last), chain (several turns), memory, schema, tools."""
    if kind == "simple":
        return [simple_turn(source)]
    if kind == "hard":
        return [source.choice([arithmetic, word_task, word_task, sort_numbers, json_free])(source)]
    if kind == "chain":
        return [simple_turn(source) for _ in range(source.choice([2, 2, 3, 4]))]
    if kind == "memory":
        return memory_turns(source)
    if kind == "schema":
        return [json_schema(source, made.topic)]
    if source.chance(0.12):  # a question that needs no function
        return [source.choice([arithmetic, word_task, talk_of_oneself])(source)]
    turns = []
    for _ in range(2 if source.chance(0.25) else 1):
        at = source.rng.randrange(len(made.topic))
        turns.append(tool_turn(source, made.topic[at], made.tools[at]))
    return turns


def conversation(source, kind, effort):
    made = frame(source, kind, effort)
    made.turns = fill(source, kind, made)
    return made
