"""The words that the training text is made of."""

NOUNS = """
apple arrow badge ball banana basket battery bell bird blanket boat book bottle box branch bread
bridge brush bucket button cable cake camera candle carpet castle cat chair cheese circle city
clock cloud coat coffee coin color corner cup curtain desk dinner dog door dragon dream drum
engine feather fence field finger fire fish flag floor flower forest fork fox garden gate gift
glass glove grass guitar hammer harbor hat heart hill honey horse hotel house iceberg island
jacket jar key king kitchen kite ladder lake lamp lantern leaf lemon letter lion mailbox map
market meadow mirror money moon morning mountain mouse music needle nest night notebook ocean
onion orange oven owl paint paper park path pencil piano picture pillow planet plate pocket poem
potato queen rabbit radio rain recipe ribbon ring river road robot rocket roof rope rose sail salt
sand school scissors shadow sheep shelf ship shirt shoe silver sister sky snow soap song soup
spider spoon spring star stone storm story street sugar summer sun table tea temple tiger tower
town train tree truck tunnel umbrella valley village violin voice wagon wall water wave whale
wheel wind window winter wolf wood world yard zebra
""".split()

ADJECTIVES = """
big blue bold brave bright brown calm cheap clean clever cold cool curious dark deep dry early
easy empty fair fast fine fresh funny gentle glad golden good gray great green happy hard heavy
high honest huge kind large late lazy light little long loud lucky modern narrow neat new nice old
open orange pink plain polite proud purple quick quiet rare red rich round sad sharp short shy
silent silver simple slow small smart soft strong sweet tall tiny warm weak white wide wild wise
yellow young
""".split()

VERBS = """
archive assign book bookmark build buy cancel check clean close collect copy count create cut
delete describe download draw edit enable export fetch file find fix get hide import inspect
install invite label list load lock mark measure merge monitor move notify open order pack pause
pick pin play post print publish queue read register release remove rename rent repair replace
report reserve reset restart restore review rotate run save scan schedule search sell send share
show sort start stop store submit sync tag test toggle track translate unlock update upload verify
view watch write
""".split()

THINGS = """
account alarm album appointment archive article backup balance battery bill bucket bus calendar
camera campaign card case channel city client cluster comment contact container contract country
course customer device disk document door driver email employee event exam file flight folder game
group guest host hotel image index invoice issue item job key label lamp layer license light list
lock log member menu message meter movie network note order package page parcel partner patient
payment photo plan player playlist policy port printer process product profile project queue
recipe record region release report robot room route sample schedule score sensor server session
shelf ship shop sign song staff station stock store student supplier table task team ticket timer
token topic tour train user vehicle vendor video visit volume wallet window worker
""".split()

NAMES = """
Ada Adam Agnes Alan Alex Alice Amir Ana Anna Anton Aria Arthur Astrid Bella Ben Bruno Carl Carla
Chen Chloe Clara Daniel David Diana Dora Edith Elena Eli Ella Emil Emma Eric Eva Felix Finn Flora
Frank Freya Gita Grace Greta Hana Hannah Harry Hugo Ida Igor Ines Iris Isaac Ivan Jack James Jane
Jonas Julia Karl Kate Keiko Kofi Lars Laura Lea Leo Lena Lily Linda Lisa Louis Lucy Luis Maria
Mark Marta Max Maya Mia Mila Milo Mina Nadia Nils Nina Noah Nora Olga Oliver Omar Oscar Otto Paul
Paula Pedro Peter Priya Ravi Rosa Ruth Sam Sara Simon Sofia Sven Tara Theo Tim Tom Uma Vera Victor
Wanda Yara Yuki Zoe
""".split()

_CITIES = """
Amsterdam Athens Auckland Bangkok Barcelona Beijing Bergen Berlin Bern Bogota Boston Bremen
Brussels Budapest Cairo Chicago Cologne Copenhagen Dakar Dallas Delhi Denver Dresden Dubai Dublin
Edinburgh Florence Geneva Genoa Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Kyiv Kyoto
Lagos Leipzig Lima Lisbon Liverpool London Lyon Madrid Manila Marseille Miami Milan Montreal
Moscow Mumbai Munich Nairobi Naples Osaka Oslo Ottawa Paris Porto Prague Quito Riga Rome Rotterdam
Santiago Seattle Seoul Seville Shanghai Sofia Stockholm Sydney Taipei Tallinn Tokyo Toronto Tunis
Turin Utrecht Valencia Venice Vienna Vilnius Warsaw Zagreb Zurich
""".split()

CITIES = [
    *_CITIES,
    "New York",
    "San Francisco",
    "Los Angeles",
    "San Francisco, CA",
    "Boston, MA",
    "Cape Town",
    "Hong Kong",
    "Buenos Aires",
    "Mexico City",
    "Rio de Janeiro",
    "New Delhi",
    "São Paulo",
    "Zürich",
    "Paris, France",
]

LANGUAGES = """
Czech Danish Dutch English French German Greek Italian Polish Spanish Swedish
""".split()

SYLLABLES = """
ba be bi bo bu da de di do du fa fe fi fo ga go ha he hi ho ka ke ki ko ku la le li lo lu ma me mi
mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi
xa ya yo za ze zi zo bar bel bor dan del dor fen gar gel jan jor kal kel lan len lor mar mel nar
nor pel quin rak ran rel sol tan tel tor van vel vor wen yar zan zel
""".split()

# Samples of other scripts: letters are drawn at random, so that any of their bytes is copied.
SCRIPTS = [
    "äöüßéèêëçñåøæœáíóúýčšžłőğ",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "日本語中文字東京人大小山川水火木金土天地上下左右一二三四五六七八九十愛学生先電車",
    "あいうえおかきくけこさしすせそたちつてとアイウエオカキクケコ",
    "가나다라마바사아자차카타파하한국어",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "अआइईउऊकखगघचछजझटठडढतथदधनपफबभमयरलवशसह",
    "😀😃😄😁😆😅😂🙂😉😊😍😎🤔👍👎👋🙏🎉🔥⭐❤🚀🐱🐶🦊🌍🌙☀🍎🍕⚡✅❌💡📦🎵",
    "←↑→↓∀∃∈∑√∞≈≠≤≥±×÷€£¥©®°•…—“”‘’«»",
]
