"""What a dialogue expects, held against what came.

A pattern is a piece of XML. It fits an element with the same name and namespace that has at least the pattern's
attributes and children (children in any order); text must be equal unless the pattern has none. In it:

  {any}          any value, but there must be one           {none}        the attribute must not be there
  {not:x}        another value than x, or no attribute
  {new:x}        any value, which is {x} from here on       {x}           what was bound before
  {re:...}       the value matches this regular expression  <not>...</not>    no child may fit
  <only/>        there are no children besides those named
"""
import re
import xml.parsers.expat

from xmpp import NS, Reader

HOLDER = "<stream:stream xmlns='jabber:client' xmlns:stream='{}' xmlns:q='urn:q'>".format(NS["stream"])


def parse(text):
    """The elements of a text of patterns."""
    events = []
    reader = Reader(events)
    try:
        reader.parser.Parse(HOLDER + text + "</stream:stream>", True)
    except xml.parsers.expat.ExpatError as e:
        raise ValueError(f"the pattern is not well-formed ({e}): {text}") from e
    return [e.element for e in events if e.kind == "stanza"]


def fit_text(want, have, values):
    """True when the text fits; binds {new:x}."""
    if want == "{any}":
        return have is not None
    if want == "{none}":
        return have is None
    if want.startswith("{not:"):
        return have != want[5:-1]
    if have is None:
        return False
    if m := re.fullmatch(r"\{new:(\w+)\}", want):
        values[m[1]] = have
        return True
    if want.startswith("{re:") and want.endswith("}"):
        return re.fullmatch(want[4:-1], have) is not None
    return want == have


def fits(want, have, values):
    """Why the element does not fit the pattern, or None when it does."""
    if want.name != have.name or want.ns != have.ns:
        return f"<{want.name} xmlns='{want.ns}'> is expected, <{have.name} xmlns='{have.ns}'> came"
    for name, value in want.attrs.items():
        if not fit_text(value, have.attrs.get(name), values):
            return f"{name} of <{want.name}> should be {value}, and is {have.attrs.get(name)}"
    text = want.text().strip()
    if text and not fit_text(text, have.text(), values):
        return f"the text of <{want.name}> should be {text}, and is {have.text()}"
    return fits_children(want, have, values)


def fits_children(want, have, values):
    left, only = have.elements(), False
    for child in want.elements():
        if child.name == "only":
            only = True
        elif child.name == "not":
            for forbidden in child.elements():
                if any(fits(forbidden, c, dict(values)) is None for c in have.elements()):
                    return f"<{forbidden.name}> should not be in <{want.name}>"
        else:
            reasons = []
            for candidate in left:
                trial = dict(values)
                reason = fits(child, candidate, trial)
                if reason is None:
                    values.update(trial)
                    left.remove(candidate)
                    break
                reasons.append(reason)
            else:
                return f"no child <{child.name}> of <{want.name}> fits" + (f" ({reasons[0]})" if reasons else "")
    if only and left:
        return f"<{want.name}> has more than was expected: <{left[0].name}>"
    return None
