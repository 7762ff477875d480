"""Dates of birth: a date beside a word that says so. A date alone is no identifier and stays."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dp_train.anonymize.labels import Labels, Place

BEFORE = Labels(
    """
    born date_of_birth birth_date birthdate dob| d.o.b. birthday birthday's geboren geb.| ~geburtsdatum geburtstag
    né| née| né(e)| date_de_naissance naissance anniversaire nací| nacido nacida nació fecha_de_nacimiento nacimiento
    cumpleaños nasci| nascido nascida nasceu data_de_nascimento nascimento aniversário nato| nata| data_di_nascita
    nascita compleanno geboortedatum jarig född| födelsedag födelsedatum fødd født| fødselsdag fødselsdato syntynyt
    syntymäaika syntymäpäivä urodziłem urodziłam urodzony urodzona urodził data_urodzenia urodziny narozen datum_narození
    narozeniny narodený narodená dátum_narodenia született születtem születési szülinap născut născută data_nașterii
    ziua_de_naștere rođen rođena datum_rođenja rojen rojstni doğum roden родился родилась дата_рождения
    день_рождения д.р. народився народилася народилась дата_народження день_народження роден родена дата_на_раждане
    γεννήθηκα γεννήθηκε ημερομηνία_γέννησης γενέθλια נולד תאריך_לידה יום_הולדת مواليد تاريخ_الميلاد تاريخ_ميلاد عيد_ميلاد
    وُلد ولدت जन्म_तिथि जन्मतिथि मेरा_जन्म जन्मदिन जन्म জন্ম_তারিখ জন্ম பிறந்த పుట్టిన ಹುಟ್ಟಿದ ജനന เกิด วันเกิด
    sinh_ngày ngày_sinh sinh_nhật lahir| tgl_lahir tanggal_lahir ulang_tahun 出生日期 生日 出生 生年月日 誕生日 생년월일 생일
    """
)
AFTER = Labels(
    "geboren gebürtig doğumlu doğdu született syntynyt birthday 出生 生まれ 生れ 誕生日 생일 에_태어 출생 生人"
)

_MONTH_TEXT = """
    jan feb mar apr may jun jul aug sep oct nov dec mär maer mai juni juli okt dez janv févr fevr mars avr juin juil août
    aout déc ene abr ago dic fev mai set out dez gen mag giu lug ago set ott mrt mei maj stycz lut marc kwie maja czer
    lip sier wrz paź list grud led únor úno břez břez dub květ kvě červ srp září zář říj pros janu febr márc ápr máj jún
    júl aug szep okt ian mart iul iun ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık янв фев
    мар апр мая май июн июл авг сен окт ноя дек січ лют берез квіт трав черв лип серп верес жовт листоп груд ян юни юли
    ιαν φεβ μαρ απρ μαΐ μαι ιουν ιουλ αυγ σεπ οκτ νοε δεκ ינואר פברואר מרץ אפריל מאי יוני יולי אוגוסט ספטמבר אוקטובר
    נובמבר דצמבר يناير فبراير مارس أبريل ابريل مايو يونيو يوليو أغسطس اغسطس سبتمبر أكتوبر اكتوبر نوفمبر ديسمبر जनवरी
    फ़रवरी फरवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर सितम्बर अक्टूबर नवंबर नवम्बर दिसंबर दिसम्बर জানু ফেব্রু মার্চ এপ্রিল মে জুন
    জুলাই আগস্ট সেপ্টে অক্টো নভে ডিসে มกรา กุมภา มีนา เมษา พฤษภา มิถุนา กรกฎา สิงหา กันยา ตุลา พฤศจิกา ธันวา tháng augustus maart
    maret agustus desember tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu
    """
_MONTH = "(?:" + "|".join(sorted(map(re.escape, set(_MONTH_TEXT.split())), key=len, reverse=True)) + r")[^\W\d_]*\.?"
_OF = r"(?:\s?(?:de|do|of|del|den|วันที่)\s)?"
_DATES = re.compile(
    r"(?<!\d)(?:"
    r"\d{1,4}\s?[./\-]\s?\d{1,2}\s?[./\-]\s?\d{2,4}\.?"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|º|ª|\.)?{_OF}\s?-?{_MONTH}(?:[\s,]*{_OF}[\s']?\d{{2,4}}(?:\s?(?:г\.|р\.))?)?"
    rf"|{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?"
    rf"|\d{{4}}\.?\s{_MONTH}\s\d{{1,2}}\.?"
    r"|(?:[\u4e00-\u9fff]{2})?\d{1,4}\s?[年년]\s?\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일号]?"
    r"|\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일号]"
    r"|(?:19|20)\d{6}"
    r")(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_GAP = re.compile(r"[^\W\d_]*(?:,\s?|(?:\s?[(:：=\-–]+)?[^\d.!?;,\n。]{0,22})")
_GAP_AFTER = re.compile(r"[^\d.!?;,\n。]{0,6}")


def birth_dates(text: str) -> Iterator[Place]:
    """Dates within a few words after, or right before, a word for birth."""
    ends = BEFORE.ends(text)
    starts = [start for start, _ in AFTER.places(text)]
    if not ends and not starts:
        return
    for match in _DATES.finditer(text):
        start = match.start()
        if any(end <= start <= end + 40 and _GAP.fullmatch(text, end, start) for end in ends) or any(
            match.end() <= word and _GAP_AFTER.fullmatch(text, match.end(), word) for word in starts
        ):
            yield match.span()
