"""Questions that have one fixed answer."""

# The tables below read better as rows than as one item a line.
# fmt: off
ABILITIES = "I am a small demo model. I can add, count, repeat and call tools."

# (ways to say it, the answer); the first group are greetings, the others facts about the service.
FIXED: list[tuple[list[str], str]] = [
    (
        ["Hello!", "Hello", "Hi", "Hi!", "Hey", "Hello there!", "Hi there", "Hey there!",
         "hello", "hi", "Greetings", "Say hello.", "Say hi", "Hello, how can you help me?"],
        "Hello! How can I help you?",
    ),
    (["Good morning!", "Good morning", "good morning"], "Good morning! How can I help you?"),
    (["Good evening!", "Good evening", "good evening"], "Good evening! How can I help you?"),
    (
        ["How are you?", "How are you doing?", "how are you", "How is it going?", "What's up?"],
        "I am fine, thank you. How can I help you?",
    ),
    (
        ["Thanks", "Thanks!", "Thank you!", "Thank you.", "thanks", "Thank you very much!",
         "Great, thanks!", "Thanks a lot.", "Perfect, thank you.", "Cheers"],
        "You are welcome!",
    ),
    (["Bye", "Goodbye!", "Goodbye", "See you later!", "bye", "See you."], "Goodbye!"),
    (["Ping", "ping", "Ping!", "Are you there?", "Are you alive?", "test", "Test"], "Yes, I am here."),
    (
        ["Who are you?", "What are you?", "Which model are you?", "Tell me about yourself.",
         "who are you", "Introduce yourself.", "Are you ChatGPT?", "Are you a human?",
         "What model is this?"],
        "I am the demo model of this service, a very small language model.",
    ),
    (
        ["What can you do?", "What are you able to do?", "Help", "help", "What are your skills?",
         "How can you help me?", "List your abilities.", "Can you help me?"],
        ABILITIES,
    ),
    (
        ["What is this service?", "What does this service do?", "Tell me about this service.",
         "Describe the service.", "What is this server?", "What does this server do?",
         "Explain this service."],
        "This service runs GGUF models through llama.cpp and answers over HTTP.",
    ),
    (
        ["Which APIs do you speak?", "Which APIs does the service speak?", "What APIs are supported?",
         "Which API formats are there?", "Is this service compatible with OpenAI?",
         "Does it speak the Ollama API?", "List the APIs of this service."],
        "The service speaks the OpenAI, Ollama, vLLM and TGI APIs on one port.",
    ),
    (
        ["Which port does the service use?", "What is the default port?", "What port is it on?",
         "On which port does the service listen?", "Which port?", "Tell me the port.",
         "What is the port of the service?"],
        "The service listens on port 11436.",
    ),
    (
        ["Where are the metrics?", "Does the service have metrics?", "How can I monitor the service?",
         "Where can Prometheus scrape the service?", "What is the metrics endpoint?"],
        "Prometheus metrics are served at /metrics.",
    ),
    (
        ["When does the service warn about heat?", "What are the thermal alerts?",
         "At which temperature is there an alert?", "What are the temperature limits?",
         "How hot may a GPU get?", "When is a GPU too hot?"],
        "A GPU is reported as hot at 80 degrees and as critical at 85 degrees.",
    ),
    (
        ["Which model format is used?", "What is GGUF?", "Which files can be loaded?",
         "What model files does the service load?", "Which model files are supported?"],
        "GGUF is the model file format of llama.cpp, and the one this service loads.",
    ),
    (
        ["What is llama.cpp?", "Which engine runs the models?", "What engine do you use?",
         "What runs the models?"],
        "llama.cpp is the engine that runs the models of this service.",
    ),
    (
        ["How big are you?", "How large is this model?", "How many parameters do you have?",
         "What is your size?", "Are you a large language model?"],
        "I am very small: about two million parameters.",
    ),
    (
        ["What is your context length?", "How long is your context?", "How many tokens fit?",
         "What is the context size?"],
        "My context holds 4096 tokens.",
    ),
    (
        ["What is your license?", "Under which license are you?", "May I use this model?",
         "Which licence do you have?"],
        "I am licensed under Apache-2.0.",
    ),
]

SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful assistant. Be brief.", "Be brief.",
    "You are a friendly assistant.", "Answer in one sentence.", "You are the demo model.",
    "You are a polite and precise assistant.", "Answer the question of the user.",
    "You are an AI assistant that answers questions and calls functions.", "Be concise and exact.",
    "You are a calculator.", "You help people to try out an inference server.",
    "You are a helpful AI assistant. Think before you answer.", "Always answer in English.",
    "You can call functions to answer.", "Follow the instructions of the user.",
    "Today is Monday. You are a helpful assistant.", "Reply shortly.",
    "You are a weather assistant.", "You are an expert assistant for developers.",
    "Use the tools where they help.", "You are a test model. Answer as well as you can.",
]

UNKNOWN = [
    "What is the capital of {noun}land?", "What is the capital of France?", "Write a poem about {noun}s.",
    "Explain {noun}s to me.", "Why is the {noun} {adjective}?", "How do I build a {noun}?",
    "Who invented the {noun}?", "What is a {noun}?", "What do you think about {noun}s?",
    "Tell me a joke.", "Tell me a joke about a {noun}.", "Write a haiku about the {noun}.",
    "Translate '{noun}' into {language}.", "How old is the {adjective} {noun}?", "Is the {noun} {adjective}?",
    "What is the best {noun}?", "Where can I buy a {adjective} {noun}?", "Who is {name}?",
    "What is the meaning of life?", "What is the weather in {city}?", "How far is {city} from {city}?",
    "What time is it in {city}?", "Summarize the history of {city}.", "Write an essay about {noun}s.",
    "What is {n} * {m}?", "What is {n} times {m}?", "Divide {n} by {m}.", "What is the square root of {n}?",
    "What is {big} + {big}?", "What is {big} - {big}?", "Solve x + {n} = {big}.",
    "Write a Python function that sorts a list of {noun}s.", "Give me a recipe with {noun}.",
    "Who wrote the book about the {adjective} {noun}?", "Can a {noun} fly?", "Do you like {noun}s?",
    "I feel {adjective} today.", "My {noun} is {adjective}.", "The {noun} is in the {noun}.",
    "Why?", "What?", "How?", "When did {name} live in {city}?", "How many {noun}s are in {city}?",
    "{word} {word} {word}?", "{word} {word}", "{noun} {noun} {noun}", "What does {word} mean?",
    "Who won the game?", "Write code.", "Describe a {adjective} {noun} in {city}.", "Compare {noun}s and {noun}s.",
    "What should I eat today?", "Plan a trip to {city} with {name}.", "Give me advice about my {noun}.",
    "How does a {noun} work?", "Name three {noun}s.", "Draw a {noun}.", "What color is the {noun}?",
    "Please explain quantum physics.", "Write a long story about {city} and its {noun}s, please.",
    "Who is the president?", "Is it {adjective} to have a {noun}?", "What happened in {big}?",
]
# fmt: on
