"""Functions to offer to the model: well-known ones by hand, and invented ones without end."""

from dataclasses import dataclass, field
from typing import Any

from . import words
from .source import Source, kept_back

# Each row: names; descriptions; parameters as (names, kind of value); what a user says, where
# {0} is the first value. The kinds are those of `value`.
_KNOWN: list[tuple[list[str], list[str], list[tuple[list[str], str]], list[str]]] = [
    (
        ["get_weather", "get_current_weather", "weather", "getWeather", "fetch_weather", "forecast"],
        ["Get the weather in a city.", "Get the current weather in a given location", "Weather of a place"],
        [(["city", "location", "place", "town"], "city")],
        ["What is the weather in {0}?", "What's the weather like in {0}?", "How is the weather in {0}?",
         "Weather in {0}?", "Tell me the weather in {0}.", "Is it raining in {0}?", "weather {0}",
         "What is the weather like in {0} today?", "Please check the weather in {0}."],
    ),
    (
        ["get_time", "current_time", "get_current_time", "clock"],
        ["Get the time in a city.", "Current time of a place"],
        [(["city", "location", "place", "timezone"], "city")],
        ["What time is it in {0}?", "Tell me the time in {0}.", "Time in {0}?"],
    ),
    (
        ["add", "add_numbers", "sum", "plus", "calculate_sum"],
        ["Add two numbers.", "Adds two integers", "The sum of two numbers"],
        [(["a", "x", "first", "left"], "integer"), (["b", "y", "second", "right"], "integer")],
        ["Add {0} and {1}.", "What is {0} plus {1}?", "What is {0} + {1}?", "{0} + {1}",
         "What is the sum of {0} and {1}?", "Use the tool to add {0} and {1}."],
    ),
    (
        ["multiply", "times", "product", "multiply_numbers"],
        ["Multiply two numbers.", "The product of two integers"],
        [(["a", "x", "first"], "integer"), (["b", "y", "second"], "integer")],
        ["Multiply {0} by {1}.", "What is {0} times {1}?", "What is {0} * {1}?", "{0} * {1}"],
    ),
    (
        ["set_temperature", "setTemperature", "set_thermostat", "heat"],
        ["Set the temperature of the room.", "Set the thermostat"],
        [(["celsius", "temperature", "degrees", "value"], "integer")],
        ["Set the temperature to {0} degrees.", "Set the temperature to {0}.", "Make it {0} degrees.",
         "Please set the thermostat to {0}."],
    ),
    (
        ["lookup", "find_record", "get_item", "lookup_id", "fetch_record"],
        ["Look up a record by its number.", "Find an item by id"],
        [(["id", "number", "key", "record"], "integer")],
        ["Look up {0}.", "Look up record {0}.", "Find item {0}.", "Look up the record with id {0}."],
    ),
    (
        ["set_timer", "start_timer", "timer"],
        ["Start a timer.", "Set a timer in minutes"],
        [(["minutes", "duration", "time"], "integer")],
        ["Set a timer for {0} minutes.", "Start a timer of {0} minutes.", "Wake me in {0} minutes."],
    ),
    (
        ["search", "web_search", "search_web", "find"],
        ["Search the web.", "Search for a text"],
        [(["query", "q", "text", "term"], "phrase")],
        ['Search for "{0}".', "Search the web for {0}.", "Search for {0}", "Find pages about {0}."],
    ),
    (
        ["read_file", "open_file", "cat_file", "load_file"],
        ["Read a file.", "Returns the content of a file"],
        [(["path", "file", "filename"], "file")],
        ["Read the file {0}.", "Open {0}", "Show me the file {0}.", "What is in {0}?"],
    ),
    (
        ["get_stock_price", "stock_price", "quote"],
        ["Get the price of a stock.", "Stock price by symbol"],
        [(["symbol", "ticker", "stock"], "symbol")],
        ["What is the price of {0}?", "Stock price of {0}?", "How is {0} trading?"],
    ),
    (
        ["send_message", "message", "send_text", "notify"],
        ["Send a message to a person.", "Send a text message"],
        [(["to", "recipient", "name"], "name"), (["text", "message", "body"], "phrase")],
        ['Send "{1}" to {0}.', "Tell {0}: {1}", 'Send {0} the message "{1}".'],
    ),
    (
        ["translate", "translate_text"],
        ["Translate a text.", "Translate into another language"],
        [(["text", "input"], "phrase"), (["language", "target", "to"], "language")],
        ['Translate "{0}" into {1}.', 'How do you say "{0}" in {1}?', "Translate to {1}: {0}"],
    ),
    (
        ["book_train", "find_route", "route", "book_flight"],
        ["Find a connection between two cities.", "Travel from one city to another"],
        [(["from", "origin", "start"], "city"), (["to", "destination", "end"], "city")],
        ["I want to go from {0} to {1}.", "Find a trip from {0} to {1}.", "Book a seat from {0} to {1}."],
    ),
    (
        ["get_status", "status", "health", "ping_server"],
        ["Get the status of the server.", "Report the health of the system"],
        [],
        ["What is the status?", "Is the server healthy?", "Show the status of the server."],
    ),
]  # fmt: skip

_ASKED = [
    "{Verb} the {thing} {0}.", "{Verb} {thing} {0}", "Please {verb} the {thing} {0}.",
    "Can you {verb} the {thing} {0}?", "I want to {verb} the {thing} {0}.", "Use {name} with {0}.",
    "Call {name} with {0}.", "{verb} {thing} {0}", "Could you {verb} {thing} {0} for me?",
    "Call {name} with {p0} {0}.", "Call the function {name} with {p0} = {0}.", "Run {name} for {0}.",
]  # fmt: skip
_ASKED_TWO = [
    "{Verb} the {thing} with {p0} {0} and {p1} {1}.", "Use {name} with {p0} {0} and {p1} {1}.",
    "Call {name} with {p0} = {0} and {p1} = {1}.", "Please {verb} the {thing}: {p0} {0}, {p1} {1}.",
]  # fmt: skip


def value(kind: str, source: Source) -> str | int:
    if kind == "integer":
        return source.number() if source.chance(0.8) else source.randint(-99, 99)
    if kind == "any":
        kind = source.choice(["name", "city", "code", "word", "quoted", "file"])
    if kind == "file":
        return f"{source.choice(['', '/', 'src/', 'docs/'])}{source.word()}.{source.pseudo(1, 1)}"
    if kind == "symbol":
        return "".join(source.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=source.randint(2, 4)))
    if kind == "language":
        return source.choice(words.LANGUAGES)
    if kind == "quoted":
        return source.phrase()
    makers = {"name": source.name, "city": source.city, "code": source.code, "word": source.word}
    return makers[kind]() if kind in makers else source.phrase()


@dataclass
class Function:
    """A function, what its parameters hold, and how a user asks for it."""

    name: str
    description: str
    parameters: list[tuple[str, str]]
    questions: list[str]
    fields: dict[str, str] = field(default_factory=dict)

    def request(self, source: Source) -> tuple[str, dict[str, str | int]]:
        """A question that needs this function, and the arguments it asks for."""
        values = [value(kind, source) for _, kind in self.parameters]
        shown = [
            f'"{v}"' if kind == "any" and isinstance(v, str) and (" " in v or source.chance(0.3))
            else str(v)
            for v, (_, kind) in zip(values, self.parameters, strict=True)
        ]  # fmt: skip
        question = source.choice(self.questions).format(*shown, **self.fields)
        names = [name for name, _ in self.parameters]
        return question, dict(zip(names, values, strict=True))

    def schema(self, source: Source) -> dict[str, Any]:
        """Its description as clients send it: some say more, some less, in changing order."""
        wordy = source.chance(0.5)
        properties: dict[str, Any] = {}
        for name, kind in self.parameters:
            properties[name] = {"type": "integer" if kind == "integer" else "string"}
            if wordy:
                properties[name]["description"] = source.choice(
                    [f"The {name}.", f"{name.capitalize()} to use", f"The {name} of the request"]
                )
        required = list(properties)
        if source.chance(0.12):
            extra = source.choice(["unit", "format", "limit", "verbose", "lang"])
            properties.setdefault(extra, {"type": source.choice(["string", "integer", "boolean"])})
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if source.chance(0.8):
            parameters["required"] = required
        if source.chance(0.15):
            parameters["additionalProperties"] = False
        function: dict[str, Any] = {"name": self.name}
        if source.chance(0.9):
            function["description"] = self.description
        function["parameters"] = parameters
        if source.chance(0.1):
            function["strict"] = True
        schema = {"type": "function", "function": function}
        return _shuffled(schema, source) if source.chance(0.25) else schema


def _shuffled(node: Any, source: Source) -> Any:
    if not isinstance(node, dict):
        return node
    return {key: _shuffled(node[key], source) for key in source.sample(list(node), len(node))}


def known(source: Source) -> Function:
    names, descriptions, parameters, questions = source.choice(_KNOWN)
    chosen = [(source.choice(options), kind) for options, kind in parameters]
    return Function(source.choice(names), source.choice(descriptions), chosen, questions)


def invented(source: Source) -> Function:
    while True:
        verb = source.choice(words.VERBS) if source.chance(0.8) else source.pseudo()
        thing = source.choice(words.THINGS) if source.chance(0.8) else source.pseudo()
        if kept_back(verb, thing) == source.unseen:
            break
    name = source.choice([f"{verb}_{thing}", f"{verb}_{thing}", f"{verb}{thing.capitalize()}",
                          f"{thing}_{verb}", f"{verb}-{thing}"])  # fmt: skip
    if source.chance(0.1):
        name += f"_{source.randint(1, 9)}"
    pool = ["id", "name", "key", "number", "title", "value", "code", "label", "target",
            f"{thing}_id", thing, f"{thing}Name", source.pseudo(), "count", "level"]  # fmt: skip
    two = source.chance(0.25)
    chosen = source.sample(pool, 2 if two else 1)
    parameters = [(p, "integer" if source.chance(0.45) else "any") for p in chosen]
    fields = {"verb": verb, "Verb": verb.capitalize(), "thing": thing, "name": name}
    fields |= {f"p{i}": p for i, p in enumerate(chosen)}
    description = source.choice(
        [f"{verb.capitalize()} a {thing}.", f"{verb.capitalize()} the {thing}",
         f"Function to {verb} a {thing} by {chosen[0]}."]
    )  # fmt: skip
    return Function(name, description, parameters, _ASKED_TWO if two else _ASKED, fields)


def draw(source: Source, amount: int) -> list[Function]:
    """Some functions with different names and purposes."""
    drawn: dict[str, Function] = {}
    while len(drawn) < amount:
        function = known(source) if source.chance(0.4) else invented(source)
        drawn.setdefault(function.description, function)
    functions = list(drawn.values())
    families = {id(function.questions) for function in functions if not function.fields}
    distinct = len(families) == sum(not function.fields for function in functions)
    return functions if distinct else draw(source, amount)
