"""The formats of strings that are held, as regular expressions; other formats are annotations."""

from __future__ import annotations

# RFC 3339: every day is one that its month has, and only leap years have a 29th of February.
_LEAP = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DAYS = (
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8])"
)
_DATE = f"([0-9]{{4}}-({_DAYS})|{_LEAP}-02-29)"
_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = _HOUR + r":[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]" + _HOUR + ")"
# RFC 5321 and 1123 without quotes, comments and addresses in brackets.
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]"
_EMAIL = rf"{_ATOM}{{1,32}}(\.{_ATOM}{{1,15}}){{0,2}}@({_LABEL}\.){{1,4}}[a-zA-Z]{{2,18}}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_BYTE}\.){{3}}{_BYTE}"
_GROUP = "[0-9a-fA-F]{1,4}"
# RFC 4291: `::` stands for the groups that are missing, at least one.
_IPV6 = "|".join(
    [f"({_GROUP}:){{7}}{_GROUP}", f"({_GROUP}:){{1,7}}:", f"::(({_GROUP}:){{0,6}}{_GROUP})?"]
    + [f"({_GROUP}:){{{n}}}(:{_GROUP}){{1,{7 - n}}}" for n in range(1, 7)]
)
_URI_CHAR = r"([a-zA-Z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2})"
_URI = (
    rf"[a-zA-Z][a-zA-Z0-9+.-]{{0,15}}:{_URI_CHAR}{{1,512}}"
    rf"(\?({_URI_CHAR}|\?){{0,512}})?(#({_URI_CHAR}|\?){{0,128}})?"
)
_CLOCK = "T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"
_DAY = "[0-9]{1,4}"
_CALENDAR = f"({_DAY}Y({_DAY}M({_DAY}D)?)?|{_DAY}M({_DAY}D)?|{_DAY}D)"

FORMATS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": f"^P({_CALENDAR}({_CLOCK})?|{_CLOCK}|{_DAY}W)$",
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "email": f"^{_EMAIL}$",
    "hostname": rf"^({_LABEL}\.){{0,4}}{_LABEL}$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^({_IPV6})$",
    "uri": f"^{_URI}$",
}
