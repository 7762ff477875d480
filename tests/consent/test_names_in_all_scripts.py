"""Names of the roster in every script, and as people decline, prefix, transliterate and disguise them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.consent.name_romanised import readings, romanisations
from dp_train.consent.names import FullNames, NameIndex

SCRIPTS = {
    "Devanagari": ("देव शर्मा", "कल {} से बात हुई"),
    "Bengali": ("রহিমা খাতুন", "কাল {} এসেছিল"),
    "Gurmukhi": ("ਗੁਰਪ੍ਰੀਤ ਸਿੰਘ", "ਕੱਲ੍ਹ {} ਆਇਆ"),
    "Gujarati": ("કિરણ પટેલ", "ગઈકાલે {} મળ્યા"),
    "Tamil": ("கமலா ராஜன்", "நேற்று {} வந்தார்"),
    "Telugu": ("శ్రీనివాస్ రావు", "నిన్న {} వచ్చారు"),
    "Kannada": ("ಲಕ್ಷ್ಮಿ ಹೆಗ್ಡೆ", "ನಿನ್ನೆ {} ಬಂದರು"),
    "Malayalam": ("അനിൽ കുമാർ", "ഇന്നലെ {} വന്നു"),
    "Sinhala": ("නිමල් පෙරේරා", "ඊයේ {} ආවා"),
    "Thai": ("สมชาย ใจดี", "เมื่อวาน{}มาแล้ว"),
    "Lao": ("ສົມສັກ ພົມມະ", "ມື້ວານ{}ມາ"),
    "Burmese": ("အောင် ကျော်", "မနေ့က{}လာတယ်"),
    "Khmer": ("សុខា ចាន់", "ម្សិលមិញ{}មក"),
    "Hebrew with niqqud": ("דָּנָה כֹּהֵן", "אתמול {} באה"),
    "Arabic": ("ليلى حداد", "جاءت {} أمس"),
    "Cyrillic": ("Анна Петрова", "вчера {} пришла"),
    "Greek": ("Ελένη Παππά", "χθες ήρθε η {}"),
    "Georgian": ("ნინო ბერიძე", "გუშინ {} მოვიდა"),
    "Armenian": ("Անի Սարգսյան", "երեկ {} եկավ"),
    "Ethiopic": ("አበበ ቢቂላ", "ትናንት {} መጣ"),
    "Chinese": ("李小明", "昨天{}说了"),
    "Japanese": ("田中太郎", "昨日{}が来た"),
    "Korean": ("김민수", "어제 {}가 왔다"),
}


def found(name: str, text: str) -> list[str]:
    return [text[start:end] for start, end, _ in NameIndex({"u-0001": name}).find(text)]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(("name", "frame"), SCRIPTS.values(), ids=list(SCRIPTS))
def test_the_name_on_the_roster_is_found_in_its_script(name: str, frame: str, form: str) -> None:
    for said in (name, name.split()[0]):
        text = unicodedata.normalize(form, frame.format(said))
        assert unicodedata.normalize("NFC", "".join(found(name, text))) == unicodedata.normalize("NFC", said)
        assert NameIndex({"u": name}).occurs_in(text)


@pytest.mark.parametrize("name", ["דָּנָה כֹּהֵן", "ليلى حداد"])
def test_vowel_points_do_not_hide_a_name(name: str) -> None:
    plain = "".join(char for char in name if not unicodedata.combining(char))
    assert NameIndex({"u": name}).occurs_in(f"x {plain.split()[0]} y")
    assert NameIndex({"u": plain}).occurs_in(f"x {name} y")


DECLINED = [
    ("Anna Novak", "bez Anny"), ("Anna Novak", "mluvil jsem s Annou"), ("Anna Novak", "daj Annie"),
    ("Petr Novák", "s Petrem Novákem"), ("Jan Kowalski", "z Janem Kowalskim"), ("Marek Nowak", "od Nowaka"),
    ("Mika Virtanen", "annoin sen Mikalle"), ("Mika Virtanen", "kysy Mikalta"),
    ("Tuomas Korhonen", "Korhonenin"),
    ("Ayşe Yılmaz", "bunu Ayşe'nin"), ("Ayşe Yılmaz", "Ayşeye sor"), ("Mehmet Kaya", "Mehmetten geldi"),
    ("Zsófia Kovács", "a Kovácsnak"), ("Béla Szabó", "Bélával beszéltem"), ("Jonas Weber", "Webers Plan"),
    ("Анна Петрова", "спроси Анну"), ("Анна Петрова", "с Анной Петровой"), ("Иван Петров", "у Ивана Петрова"),
    ("Олена Шевченко", "для Олени"), ("Ελένη Παππά", "της Ελένης"), ("Γιώργος Παππάς", "τον Γιώργο"),
    ("דנה כהן", "תגיד לדנה"), ("דנה כהן", "ודנה באה"), ("ليلى حداد", "قلت لليلى"), ("محمد علي", "ومحمد جاء"),
    ("கமலா ராஜன்", "கமலாவின் திட்டம்"), ("রহিমা খাতুন", "রহিমাকে বলো"), ("అనిత రావు", "అనితకు చెప్పు"), ("김민수", "김민수에게"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), DECLINED)
def test_endings_and_prefixes_do_not_hide_a_name(name: str, text: str) -> None:
    assert NameIndex({"u": name}).occurs_in(text)
    assert found(name, text)


DISGUISED = [
    ("Sean O'Brien", "ask OBrien"), ("Sean O’Brien", "ask O'Brien"), ("Finn Ødegård", "ask Odegaard"),
    ("Finn Ødegård", "ask Oedegaard"), ("Finn Ødegård", "ask Odegard"), ("Jörg Müller", "ask Mueller"),
    ("Jörg Müller", "ask Muller"), ("Carla Ruiz Soto", "ask Ruiz"), ("Carla Ruiz Soto", "Carla Ruiz said"),
    ("Anna Berg", "ask Аnnа"), ("Anna Berg", "ask An\u00adna"), ("Anna Berg", "ask An\u200bna"),
    ("Anna Berg", "ask A\u2060nna"), ("Anna Berg", "ask 𝐀𝐧𝐧𝐚"), ("Anna Berg", "ask Ａｎｎａ"),
    ("José Peña", "ask Jose\u0301"), ("Łukasz Żak", "ask Lukasz Zak"), ("Юрий Гагарин", "ask Yuri Gagarin"),
    ("Юлия Щукина", "ask Yuliya"), ("สมชาย ใจดี", "ถาม สม\u200bชาย"), ("Đorđe Đokić", "ask Djordje"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), DISGUISED)
def test_other_spellings_do_not_hide_a_name(name: str, text: str) -> None:
    assert NameIndex({"u": name}).occurs_in(text)
    assert found(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Vera Lind", "Very good. Very. very"),
        ("Tim Brown", "Time flies; same time"),
        ("Lina Falk", "Line by line"),
        ("Sara Holt", "Same here, sorry"),
        ("Dana Moss", "Danes and danger"),
        ("Anna Berg", "the annual icebergs, Bergamo and annals"),
        ("Nora Quist", "Nor I, normal"),
    ],
)
def test_an_ending_makes_no_name_of_a_word(name: str, text: str) -> None:
    assert found(name, text) == []


def test_a_directory_counts_full_names_alone() -> None:
    names = FullNames({"u-0001": "Anna Berg", "u-0002": "Will May", "u-0003": "李小明"})
    assert names.people_in("Anna and Will see Berg in May, 小明") == set()
    assert names.people_in("Anna Berg, @willmay and 李小明") == {"u-0001", "u-0002", "u-0003"}
    assert names.people_in("ask u-0001") == {"u-0001"}


@given(st.sampled_from([name for name, _ in SCRIPTS.values()]), st.text(max_size=20), st.integers(0, 30))
def test_spans_lie_in_the_text_as_it_came(name: str, around: str, place: int) -> None:
    text = f"{around} {name[: place % len(name)]}\u200b{name[place % len(name) :]} {around}"
    for start, end, _ in NameIndex({"u-0001": name}).find(text):
        assert 0 <= start < end <= len(text)


STANDARDS = [
    ("passport (ICAO 9303)", "Юлия Сергеева", "Iuliia called"),
    ("library (ISO 9, without signs)", "Юлия Щукина", "ask Julija"),
    ("library (ISO 9, without signs)", "Шура Хрущёв", "ask Sura"),
    ("BGN/PCGN", "Егор Андреев", "ask Yegor"),
    ("Ukraine, 2010", "Григорій Ющенко", "ask Hryhorii"),
    ("Bulgaria, 2009", "Христо Щерев", "ask Shterev"),
    ("Serbia", "Ђорђе Јовановић", "ask Jovanovic"),
    ("German newspaper", "Жора Щукин", "ask Schora"),
    ("French newspaper", "Жора Пушкин", "ask Pouchkin"),
    ("Greece, as written", "Ευαγγελία Παππά", "ask Evangelia"),
    ("Greece, as it sounds", "Χρήστος Μπάκας", "ask Bakas"),
    ("Hepburn", "しょうた", "ask Shota"),
    ("Hepburn", "ちづる つしま", "ask Tsushima"),
    ("Korean, as names are spelled", "김영희", "ask Younghee"),
    ("McCune and Reischauer", "박성은", "ask Songun"),
    ("spoken without its schwa", "Imran Qureshi", "इमरान नहीं आए"),
    ("read in the other alphabet", "Marina Sokolova", "вчера Марина пришла"),
    ("read in the other alphabet", "Nikos Rossis", "χθες ήρθε ο Νίκος"),
]


@pytest.mark.parametrize(("standard", "name", "text"), STANDARDS, ids=[f"{row[0]}: {row[2]}" for row in STANDARDS])
def test_a_name_is_found_as_each_standard_spells_it(standard: str, name: str, text: str) -> None:
    assert found(name, text), standard
    assert NameIndex({"u-0001": name}).occurs_in(text)


def test_a_word_in_another_alphabet_has_to_be_written_like_a_name() -> None:
    assert found("Les Paul", "в лесу стоял лес") == []
    assert found("Les Paul", "это сказал Лес") == ["Лес"]
    assert found("No Way", "но нет") == []


@given(st.text(st.characters(min_codepoint=0x370, max_codepoint=0x30FF), min_size=1, max_size=12))
def test_any_word_has_spellings_in_plain_letters_alone(word: str) -> None:
    assert all(spelling.isascii() for spelling in (*romanisations(word), *readings(word)))
