"""What people ask, in four languages: English, Chinese, German, Spanish. One line, one meaning."""

from __future__ import annotations

LANGUAGES = ("en", "zh", "de", "es")

PHRASES: dict[str, tuple[str, str, str, str]] = {
    # people
    "person-walking": ("a person walking", "一个人在走路", "eine Person, die zu Fuß geht", "una persona caminando"),
    "someone": ("someone is there", "有人", "jemand ist da", "hay alguien"),
    "woman": ("a woman", "一位女士", "eine Frau", "una mujer"),
    "man": ("a man", "一个男人", "ein Mann", "un hombre"),
    "woman-blonde": (
        *("a woman with long blond hair", "一个金色长发的女人"),
        *("eine Frau mit langen blonden Haaren", "una mujer de pelo largo y rubio"),
    ),
    "woman-darkhair": (
        *("a woman with long black hair", "一个黑色长发的女人"),
        *("eine Frau mit langen schwarzen Haaren", "una mujer de pelo largo y negro"),
    ),
    "woman-cardigan": (
        *("a woman in a long grey cardigan", "穿灰色长开衫的女人"),
        *("eine Frau in einer langen grauen Strickjacke", "una mujer con una chaqueta larga gris de punto"),
    ),
    "man-suit": (
        "a man in a black suit",
        "穿黑色西装的男人",
        "ein Mann im schwarzen Anzug",
        "un hombre con traje negro",
    ),
    "man-tshirt": (
        *("a man in a black T-shirt", "穿黑色T恤的男人"),
        *("ein Mann im schwarzen T-Shirt", "un hombre con camiseta negra"),
    ),
    "man-redpolo": (
        *("a man in a red shirt and white shorts", "穿红色上衣和白色短裤的男人"),
        *("ein Mann mit rotem Hemd und weißer kurzer Hose", "un hombre con camisa roja y pantalón corto blanco"),
    ),
    "man-greyshirt": (
        *("a man in jeans and a grey shirt", "穿牛仔裤和灰衬衫的男人"),
        *("ein Mann in Jeans und grauem Hemd", "un hombre con vaqueros y camisa gris"),
    ),
    "worker": (
        *("a worker with a yellow helmet and an orange vest", "戴黄色安全帽、穿橙色背心的工人"),
        *("ein Arbeiter mit gelbem Helm und oranger Weste", "un obrero con casco amarillo y chaleco naranja"),
    ),
    "firefighter": (
        *("a firefighter in a silver suit", "穿银色防护服的消防员"),
        *("ein Feuerwehrmann im silbernen Schutzanzug", "un bombero con traje plateado"),
    ),
    "cyclist": (
        *("someone riding a bicycle", "有人骑自行车"),
        *("jemand fährt Fahrrad", "alguien montando en bicicleta"),
    ),
    # vehicles
    "vehicle": ("a vehicle drives by", "有车辆经过", "ein Fahrzeug fährt vorbei", "pasa un vehículo"),
    "car": ("a car", "一辆小汽车", "ein Auto", "un coche"),
    "blue-sedan": ("a blue car", "一辆蓝色的汽车", "ein blaues Auto", "un coche azul"),
    "sportscar": (
        *("a red convertible", "一辆红色敞篷车"),
        *("ein rotes Cabrio", "un descapotable rojo"),
    ),
    "white-car": ("a white car", "一辆白色的汽车", "ein weißes Auto", "un coche blanco"),
    "beetle": ("an old red car", "一辆红色的老爷车", "ein altes rotes Auto", "un coche rojo antiguo"),
    "pickup": ("a pickup truck", "一辆皮卡", "ein Pick-up", "una camioneta"),
    "bus": ("a green bus", "一辆绿色的公交车", "ein grüner Bus", "un autobús verde"),
    "garbagetruck": ("a garbage truck", "一辆垃圾车", "ein Müllwagen", "un camión de la basura"),
    "firetruck": ("a fire engine", "一辆消防车", "ein Feuerwehrauto", "un camión de bomberos"),
    "dumper": (
        *("a construction vehicle", "一辆工程车"),
        *("ein Baufahrzeug", "un vehículo de obras"),
    ),
    "motorcycle": ("a motorcycle", "一辆摩托车", "ein Motorrad", "una motocicleta"),
    "tricycle": (
        *("a child's pink tricycle", "一辆粉色的儿童三轮车"),
        *("ein rosa Dreirad für Kinder", "un triciclo rosa de niño"),
    ),
    "balloon": ("a hot-air balloon", "热气球", "ein Heißluftballon", "un globo aerostático"),
    # animals
    "animal": ("an animal", "一只动物", "ein Tier", "un animal"),
    "dog": ("a dog", "一只狗", "ein Hund", "un perro"),
    "horse": ("a brown horse", "一匹棕色的马", "ein braunes Pferd", "un caballo marrón"),
    "cow": ("a cow", "一头牛", "eine Kuh", "una vaca"),
    "goat": ("a goat", "一只山羊", "eine Ziege", "una cabra"),
    "deer": ("a deer", "一只鹿", "ein Reh", "un ciervo"),
    "rabbit": ("a rabbit hopping by", "一只兔子跑过", "ein Hase läuft vorbei", "pasa un conejo"),
    "duck": ("a duck", "一只鸭子", "eine Ente", "un pato"),
    "seagull": ("a seagull flying", "一只海鸥在飞", "eine fliegende Möwe", "una gaviota volando"),
    "sheep": ("a sheep", "一只绵羊", "ein Schaf", "una oveja"),
    "donkey": ("a donkey", "一头驴", "ein Esel", "un burro"),
    "bull": ("a black bull", "一头黑色的公牛", "ein schwarzer Stier", "un toro negro"),
    "fox": ("a fox", "一只狐狸", "ein Fuchs", "un zorro"),
    "goose": ("a goose", "一只鹅", "eine Gans", "un ganso"),
    "hen": ("a hen", "一只母鸡", "ein Huhn", "una gallina"),
    "crow": ("a black crow", "一只黑色的乌鸦", "eine schwarze Krähe", "un cuervo negro"),
    # things
    "cone": ("a traffic cone", "交通锥", "ein Verkehrskegel", "un cono de tráfico"),
    "guitar": ("a guitar left on the floor", "地上放着一把吉他", "eine abgestellte Gitarre", "una guitarra abandonada"),
    "basketball": (
        *("a basketball rolling", "滚动的篮球"),
        *("ein rollender Basketball", "un balón de baloncesto rodando"),
    ),
    "football": ("a football rolling", "滚动的足球", "ein rollender Fußball", "un balón de fútbol rodando"),
    "bin-metal": ("a metal dustbin", "一个金属垃圾桶", "eine Mülltonne aus Metall", "un cubo de basura metálico"),
    "bin-green": ("a green wheelie bin", "一个绿色垃圾桶", "eine grüne Mülltonne", "un contenedor de basura verde"),
    "toolbox": ("a red toolbox", "一个红色工具箱", "ein roter Werkzeugkasten", "una caja de herramientas roja"),
    "gascylinder": ("a red gas cylinder", "一个红色煤气罐", "eine rote Gasflasche", "una bombona de gas roja"),
    "drum": ("a drum", "一面鼓", "eine Trommel", "un tambor"),
    # asked about only where nothing shows it
    "elephant": ("an elephant", "一头大象", "ein Elefant", "un elefante"),
    "helicopter": (
        "a helicopter landing",
        "一架直升机降落",
        "ein landender Hubschrauber",
        "un helicóptero aterrizando",
    ),
    "boat": ("a sailing boat", "一艘帆船", "ein Segelboot", "un velero"),
    "flames": ("a fire with flames", "着火了，有火焰", "ein Feuer mit Flammen", "un incendio con llamas"),
    "train": ("a train passing", "一列火车经过", "ein vorbeifahrender Zug", "un tren pasando"),
    "umbrella": ("someone under an umbrella", "有人打着伞", "jemand mit Regenschirm", "alguien con paraguas"),
    "suitcase": ("a suitcase left behind", "被遗留的行李箱", "ein zurückgelassener Koffer", "una maleta abandonada"),
    "police-car": ("a police car", "一辆警车", "ein Polizeiauto", "un coche de policía"),
    "cat": ("a cat", "一只猫", "eine Katze", "un gato"),
    "airplane": ("an airplane", "一架飞机", "ein Flugzeug", "un avión"),
    "forklift": ("a forklift", "一辆叉车", "ein Gabelstapler", "una carretilla elevadora"),
    "wheelchair": (
        "a person in a wheelchair",
        "坐轮椅的人",
        "eine Person im Rollstuhl",
        "una persona en silla de ruedas",
    ),
    "pram": (
        "someone pushing a pram",
        "有人推着婴儿车",
        "jemand schiebt einen Kinderwagen",
        "alguien empujando un cochecito",
    ),
    "tiger": ("a tiger", "一只老虎", "ein Tiger", "un tigre"),
    "ladder": ("a man on a ladder", "梯子上的男人", "ein Mann auf einer Leiter", "un hombre en una escalera"),
    "parcel": (
        "a parcel in front of the door",
        "门前的包裹",
        "ein Paket vor der Tür",
        "un paquete delante de la puerta",
    ),
    "skateboard": ("a boy on a skateboard", "滑滑板的男孩", "ein Junge auf einem Skateboard", "un chico en monopatín"),
    "pig": ("a pig", "一头猪", "ein Schwein", "un cerdo"),
    "tent": ("a tent", "一顶帐篷", "ein Zelt", "una tienda de campaña"),
    "tractor": ("a tractor", "一辆拖拉机", "ein Traktor", "un tractor"),
    "snowman": ("a snowman", "一个雪人", "ein Schneemann", "un muñeco de nieve"),
}
