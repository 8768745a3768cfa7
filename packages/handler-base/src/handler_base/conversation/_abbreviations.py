"""Whether the full stop after a word ends a sentence: abbreviations, initials, ordinals."""

from __future__ import annotations

import functools
from typing import Literal

from handler_base.conversation._characters import words

Stop = Literal["firm", "weak", "none"]
"""What a full stop is: the end of a sentence; its end when a capital letter follows, or a letter of a writing that has
none; part of an abbreviation or a number."""

# After the words of the first list a sentence goes on; those of the second are often its last, or words of their own.
_ANY = ("dr prof st mr mrs ms vs cf ca approx dipl ing phd", "etc inc ltd co corp jr bros al no nos fig vol")
_WORDS = {
    "en": (
        "messrs mt ft gen col sgt capt lt maj cmdr rev hon sen rep gov pres supt esp viz incl",
        "dept est assn ave blvd rd tel ext ed eds pp ch sec eq art max min jan feb mar apr jun jul aug sep sept oct nov dec",
    ),
    "de": (
        (
            "bzw vgl hr hrn fr nr nrn abs tel str ggf evtl inkl exkl zzgl bspw sog allg mind bd kap abb aufl hrsg "
            "geb gest verh med jur rer nat habil mag univ ev kath lat engl frz dt ehem eigtl urspr vorm nachm zz ff chr"
        ),
        "usw usf uvm mio mrd std sek jh jhd tsd jan feb apr aug sept okt nov dez art anm phil max min",
    ),
    "fr": (
        "mm mme mlle mlles mgr ex env av apr chap éd art tél bd boul fg pp réf janv févr juil sept oct nov déc",
        "cie hab min max",
    ),
    "es": (
        (
            "sr sra sres sras srta dra ud uds vd vds ee uu ej pág págs núm tel av avda lic ing arq gral aprox máx mín "
            "ntra sta sto dto"
        ),
        "cía art cap",
    ),
    "it": (
        "sig sigg dott avv geom gent egr spett pag pagg num tel fam",
        "ecc arch art cap es",
    ),
    "pt": (
        "sr sra srs sras srta dra exmo exma ilmo pág págs núm tel av aprox ex",
        "cia art cap",
    ),
    "nl": (
        "bijv dhr mevr mw drs nl resp blz nr zgn evt incl excl tel ong jl mln mld",
        "enz",
    ),
}

_ORDINALS = words("de da no nb nn cs sk pl hu hr sl sr bs fi et lv is tr lb")
"""Languages that write the ordinal with a full stop."""
_BEFORE_ORDINALS = words(
    "am ab bis dem den der des die das im vom zum zur beim seit ihr ihrem ihren sein seinem seinen jeder jede jeden "
    "den's d. kl. år"
)
"""Words that tell an ordinal when the language is not known."""
_STRIPPED = "\"'“”‘’„‚«»‹›()[]{}¿¡*-–—"  # noqa: RUF001


def stop_after(word: str, before: str, language: str) -> Stop:
    """Return what the full stop after a word is.

    Args:
        word: What stands before it, back to white space.
        before: The word before that one; "" at the start of a piece.
        language: The primary subtag, or "" when it is not known.
    """
    word = word.lstrip(_STRIPPED).rstrip(_STRIPPED + ".")
    if not word:
        return "firm"
    if word[-1].isdigit():
        return _after_number(word, before, language)
    folded = word.casefold()
    if len(word) == 1:
        return _after_letter(word, before, language)
    if "." in word and all(len(part) <= 2 for part in word.replace("-", ".").split(".")):
        return "weak" if folded in {"a.m", "p.m"} else "none"
    inner, last = _words(language)
    if folded in inner:
        return "none"
    return "weak" if folded in last else "firm"


def _after_number(word: str, before: str, language: str) -> Stop:
    if word.isdigit() and len(word) <= 2:
        if not before or before[-1] in ":;":
            return "none"  # the number of an item
        if language in _ORDINALS or (not language and before.casefold() in _BEFORE_ORDINALS):
            return "none"
    return "weak"


def _after_letter(word: str, before: str, language: str) -> Stop:
    if word == "I" and before.islower() and language in {"", "en"}:
        return "weak"
    return "none" if word.isalpha() and word.isascii() else "firm"


@functools.cache
def _words(language: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the abbreviations of a language; of all of them when it is not one we know."""
    groups = [_ANY, _WORDS[language]] if language in _WORDS else [_ANY, *_WORDS.values()]
    inner = words(" ".join(inner for inner, _ in groups))
    last = words(" ".join(last for _, last in groups))
    # What is a common last word in one language stays one where the language is not known.
    return inner - last, last


_JOINTS = (
    # English
    "and or but because that which who whom whose when while where if so than as although though since until unless "
    "with without for from to of in on at by into about after before between through during over under "
    # German
    "und oder aber denn weil dass der die das den dem wenn als ob wo wie während obwohl damit sodass sondern "
    "mit ohne für von zu im am auf bei nach aus über unter zwischen durch seit bis gegen um vor "
    # French, Spanish, Italian, Portuguese, Dutch
    "et ou mais car que qui dont quand si comme avec sans pour dans sur par entre depuis de du des à en y o pero "
    "porque cuando donde como con sin para por desde hasta e ma perché che con senza per tra mas quando com sem "
    "en maar want dat die met zonder voor van"
)
_ARTICLES = "a an the this these my your his her its our their le la les un une el los las una il lo gli o os um uma een het ein eine einen einem einer"


@functools.cache
def joints() -> frozenset[str]:
    """Return the words before which a voice may take a breath."""
    return words(_JOINTS)


@functools.cache
def leading() -> frozenset[str]:
    """Return the words that lean on the next one: no cut after them when another place will do."""
    return joints() | words(_ARTICLES)
