"""Words for numbers that identify a person, in the main languages, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from itertools import chain
from operator import or_
from typing import NamedTuple

from dp_train.anonymize.flags import Flags
from dp_train.anonymize.shapes import is_strange, skeleton
from dp_train.consent.name_letters import plain, words

Place = tuple[int, int]

_LETTERS, _HEAD = re.compile(r"[a-z]+"), re.compile(r"[\W\d_]")


class Labels:
    """Words that say what stands beside them, ready to be looked for.

    "dob|" is a whole word, "~konto" may end a compound, "_" is a space. A label of an alphabet with spaces begins a
    word; of others (and after Hebrew and Arabic prefixes) it may stand anywhere.

    Args:
      labels: separated by spaces.

    Attributes:
      bit: of this table among all, see `may_stand`.
    """

    def __init__(self, labels: str) -> None:
        self.bit = 1 << len(_TABLES)
        _TABLES.append(self)
        for label in labels.split():
            word = label.strip("~|").replace("_", " ")
            head = _HEAD.split(word, maxsplit=1)[0]
            whole = label[-1] == "|"
            anywhere = label[0] == "~" or word[0] >= "\u0530"
            entry = _Label(word, head, whole or word != head, anywhere, whole, self)
            if label[0] == "~":
                _WITHIN.append(entry)
            else:
                _BY_BEGIN.setdefault(word[:3], []).append(entry)
                if word.isascii():
                    _BY_HEAD.setdefault(entry.head, []).append(entry)
            if not word.isascii():
                sign = next(sign for sign in word if not sign.isascii())
                _BY_SIGN.setdefault(sign, []).append(entry)
        labels_of.cache_clear()
        _flags.forget()

    def may_stand(self, text: str) -> bool:
        """Whether `places` is worth asking."""
        return _tables(text) & self.bit != 0

    def places(self, text: str) -> Sequence[Place]:
        """Where labels stand in a text, in any case; in no order."""
        return _found(text).get(self, ()) if _tables(text) & self.bit else ()

    def ends(self, text: str) -> list[int]:
        """Where labels end, left to right."""
        return sorted({end for _, end in self.places(text)})


class _Label(NamedTuple):
    word: str
    head: str  # its letters up to another sign: "account" of "account number"
    ends_word: bool  # no letter or digit follows its head
    anywhere: bool
    whole: bool
    table: Labels


_TABLES: list[Labels] = []
_BY_BEGIN: dict[str, list[_Label]] = {}
"""All labels of all tables by their first letters, so that a text is gone through once."""
_WITHIN: list[_Label] = []
"""Those that may end a compound."""
_BY_HEAD: dict[str, list[_Label]] = {}
"""Those in ASCII by their heads."""
_BY_SIGN: dict[str, list[_Label]] = {}
"""Those that are not in ASCII by the first of their signs that is none."""
_WORD_BEGINS = re.compile(r"(?<![^\W\d_])(?=([^\W\d_].{0,2}))", re.DOTALL)


@lru_cache(maxsize=1 << 15)
def labels_of(word: str) -> tuple[_Label, ...]:
    """Labels that may begin in a word of letters and digits, in lower-case ASCII, whatever stands after it.

    Words recur: what is kept is some of them, in the memory of this process alone.
    """
    found = [label for label in _WITHIN if (word.endswith if label.ends_word else word.__contains__)(label.head)]
    for match in _LETTERS.finditer(word):
        letters = match.group()
        for end in range(1, len(letters) + 1):
            at_end = match.start() + end == len(word)
            found += (label for label in _BY_HEAD.get(letters[:end], ()) if at_end or not label.ends_word)
    return tuple(found)


def _bits(labels: Iterable[_Label]) -> int:
    return reduce(or_, (label.table.bit for label in labels), 0)


_flags = Flags(lambda word: _bits(labels_of(word)))


def one_may_stand(text: str, bits: int) -> bool:
    """Whether `places` of one of the tables that have these bits is worth asking."""
    return _tables(text) & bits != 0


@lru_cache(maxsize=4)
def _tables(text: str) -> int:
    """Bits of the tables of which a label may stand in the text."""
    written = text if text.isascii() else plain(text)
    if written.isascii() and (written is text or _BY_SIGN.keys().isdisjoint(text)):  # a label may hold "’" or "°"
        return _flags(words(written))
    return _bits(_likely(text))


@lru_cache(maxsize=4)
def _found(text: str) -> dict[Labels, list[Place]]:
    """Where labels of each table stand; what is kept are the last few texts of this process, in memory alone."""
    lowered = _lowered(text)
    found: dict[Labels, list[Place]] = {}
    for label in _likely(text):
        word = label.word
        start = lowered.find(word)
        while start >= 0:
            end = start + len(word)
            inside = not label.anywhere and start > 0 and lowered[start - 1].isalpha()
            if not inside and not (label.whole and lowered[end : end + 1].isalnum()):
                found.setdefault(label.table, []).append((start, end))
            start = lowered.find(word, end)
    return found


def _lowered(text: str) -> str:
    """Small letters, each in its place."""
    lowered = text.lower()
    if len(lowered) != len(text):  # "İ" becomes two
        lowered = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    return lowered


@lru_cache(maxsize=4)
def _likely(text: str) -> tuple[_Label, ...]:
    """Labels that may stand in a text; all that do are among them."""
    if text.isascii():
        return tuple(dict.fromkeys(chain.from_iterable(map(labels_of, words(text)))))
    lowered = _lowered(text)
    signs = _BY_SIGN.keys() & set(lowered)
    if is_strange(text):
        begins = _begins(lowered)
        return (
            *(label for begin in _BY_BEGIN.keys() & begins for label in _BY_BEGIN[begin] if label.word in lowered),
            *(label for label in _WITHIN if label.word in lowered),
        )
    plain = words(skeleton(text).decode())
    of_ascii = dict.fromkeys(chain.from_iterable(map(labels_of, plain)))
    return (*of_ascii, *(label for sign in signs for label in _BY_SIGN[sign] if label.word in lowered))


def _begins(lowered: str) -> set[str]:
    begins = set(_WORD_BEGINS.findall(lowered))
    begins.update(lowered[place : place + 3] for place in range(len(lowered) - 1) if lowered[place] >= "\u0530")
    return begins | {begin[:2] for begin in begins}


DOCUMENTS = Labels(
    """
    passport passnummer passnr pass_nr ~reisepass pass_no pass| passeport pasaporte passaporte passaporto paspoort
    pasnummer pasnr passi| passin paszport pas| útlevél pașaport pasaport pasoš putovnica паспорт загранпаспорт
    διαβατήριο דרכון جواز_السفر جواز_سفر جواز_سفري पासपोर्ट পাসপোর্ট கடவுச்சீட்டு பாஸ்போர்ட் పాస్‌పోర్ట్ หนังสือเดินทาง
    พาสปอร์ต hộ_chiếu paspor 护照 護照 パスポート 旅券 여권

    driver's_license driver’s_license drivers_license driver_license driver's_licence drivers_licence driving_licence
    driving_license licence_number license_number licence_no license_no dl| dl_no ~führerschein permis_de_conduire
    permis| carnet_de_conducir permiso_de_conducir licencia_de_conducir licencia_de_manejo registro_de_conducir
    carta_de_condução cnh| habilitação patente rijbewijs körkort kørekort førerkort ajokortti ajokortin prawo_jazdy
    prawa_jazdy řidičák řidičsk vodičsk jogosítvány ehliyet sürücü_belgesi водительск права| посвідчення_водія
    свидетельство_о_шофьор δίπλωμα άδεια_οδήγησης רישיון_נהיגה رخصة_القيادة رخصة_قيادة ड्राइविंग_लाइसेंस लाइसेंस_नंबर
    ใบขับขี่ bằng_lái giấy_phép_lái sim| 驾驶证 驾照 駕照 免許証 免許番号 운전면허

    ssn| social_security_number sin| social_insurance ni_number national_insurance_number nino| nhs_number nhs_no
    tfn| tax_file medicare_card medicare_number pps| pps_number aadhaar aadhar आधार আধার ஆதார் ఆధార్ pan| pan_number
    national_id id_number identity_number identity_card id_card_no itin|
    ~steuer-id ~steuernummer steueridentifikationsnummer idnr| personalausweis ausweisnummer ~sozialversicherungsnummer
    sv-nummer svnr| ahv| ahv-nummer avs|
    numéro_de_sécu n°_de_sécu sécurité_sociale numéro_fiscal carte_d'identité carte_d’identité nas| ramq| niss|
    dni| nie| nif| cif| documento_de_identidad cédula curp| rfc| cuit| cuil| rut| nss| clave_de_elector
    cpf| cnpj| rg| título_de_eleitor pis| cartão_de_cidadão cartão_cidadão nº_de_contribuinte contribuinte niss|
    codice_fiscale carta_d'identità carta_d’identità tessera_sanitaria bsn| burgerservicenummer rijksregisternummer
    personnummer samordningsnummer cpr| cpr-nr cpr-nummer fødselsnummer henkilötunnus hetu| kennitala isikukood
    asmens_kodas personas_kods pesel| nip| dowód_osobisty dowodu_osobistego dowód| rodné_číslo rodne_cislo
    občanský_průkaz občanka személyi taj| taj-szám taj_szám adószám adóazonosító cnp| egn| егн| oib| jmbg| emšo|
    tc_kimlik tckn| kimlik_no инн| снилс іпн| рнокпп αμκα αφμ| ταυτότητα ת.ז. ת״ז ת"ז תעודת_זהות מספר_זהות
    الرقم_القومي رقم_الهوية رقم_البطاقة رقم_الإقامة এনআইডি জাতীয়_পরিচয় บัตรประชาชน เลขประจำตัว
    cccd| cmnd| căn_cước nik| ktp| npwp| nric| mykad 身份证 身分證 居民身份 マイナンバー 個人番号 保険証 住民票コード 주민등록 주민번호
    외국인등록 cnic| sozialversicherung
    """
)

BANK = Labels(
    """
    account_number account_no acct| acct_no acc_no a/c| sort_code routing aba| bsb| ifsc transit_number
    ~kontonummer ~kontonr ~kontonr. ~kto| kto. blz| bankleitzahl clearingnummer clearing|
    numéro_de_compte n°_de_compte compte_bancaire code_banque code_guichet guichet| rib| transit| institution|
    número_de_cuenta nº_de_cuenta cuenta_bancaria clabe| cbu| ccc|
    número_da_conta conta_corrente conta_bancária agência nib|
    conto_corrente numero_di_conto abi| cab| rekeningnummer rekeningnr
    tilinumero tilinumeron tilin_numero numer_konta nr_konta numer_rachunku číslo_účtu číslo_uctu
    számlaszám bankszámla cont_bancar numărul_contului hesap_no hesap_numaram hesap_numarası расчётный_счёт
    номер_счёта номер_счета лицевой_счёт номер_рахунку розрахунковий αριθμός_λογαριασμού
    מספר_חשבון חשבון_בנק סניף رقم_الحساب رقم_حساب खाता_संख्या खाता_नंबर เลขบัญชี เลขที่บัญชี
    số_tài_khoản stk| rekening| norek| no_rek nomor_rekening 账号 账户 帳號 帳戶 卡号 口座番号 口座は 普通| 支店番号 계좌번호 계좌는
    """
)

WEAK_BANK = Labels(
    """account| acc| konto| compte| cuenta| conta| conto| rekening| konta| rachunek| účet| számla| hesap| счёт| счет|
    рахунок| λογαριασμός λογαριασμό חשבון حساب खाता บัญชี contul|"""
)
"""Words that mean an account and much else: only a number right after them counts."""

PLATES = Labels(
    """
    license_plate licence_plate number_plate plate| plates| plate_number plate_no rego| reg| registration_number
    registration| kennzeichen nummernschild amtliches_kennzeichen plaque plaque_d'immatriculation immatriculation
    immatriculée matrícula matricula placa placas patente| targa| targata kenteken registreringsnummer regnr nummerplade
    skilt| bilnummer rekisterinumero rekkari tablice rejestracj spz| rz| rendszám numărul_mașinii înmatriculare plaka|
    plakası plakam номер_машины номер_авто госномер номерний_знак πινακίδα πινακίδες מספר_רכב לוחית لوحة_السيارة
    رقم_السيارة لوحة गाड़ी_नंबर गाड़ी_का_नंबर नंबर_प्लेट ทะเบียนรถ ป้ายทะเบียน ทะเบียน biển_số plat_nomor nopol 车牌 車牌 車號
    ナンバープレート 차량번호 번호판
    """
)
