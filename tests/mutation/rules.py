"""Mutants by rule: what a slip of the hand could do to a line of the product.

The code is formatted (one statement a line, spaces around operators), so lines and patterns are enough. Log lines and assertions
are left alone.
"""
import dataclasses
import hashlib
import re

TURNED = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
OFF_BY_ONE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
COMPARISON = re.compile(r"(?<=[\w)\]\"'] )(<=|>=|==|!=|<|>)(?= )")
ARITHMETIC = re.compile(r"(?<=[\w)\]] )(\+|-|\+=|-=)(?= [\w(*&])")
ARITHMETIC_TO = {"+": "-", "-": "+", "+=": "-=", "-=": "+="}
LOGIC = re.compile(r" (&&|\|\|)(?= |$)")
TRUTH = re.compile(r"\b(true|false)\b")
NUMBER = re.compile(r"(?<![\w.\"'])(0x[0-9a-fA-F]+|\d+)(?=[uUlL]*\b)(?![\w.])")
DEFINE = re.compile(r"#define\s+[A-Z]\w*\s+(.*)")
DECLARATION = re.compile(r"^\s*(?:(?:const|static|struct|enum|union|unsigned|volatile)\s+)*[a-z_]\w*\s+\**[a-z_]\w*\s*(?:\[[^\]]*\]\s*)*(?:=|;|,)")
ASSIGNMENT = re.compile(r"^\s+[\w>.\-\[\]*()&]+\s*(?:[-+|&^*/%]|<<|>>)?=\s.*;$")
CALL = re.compile(r"^\s+(?:\(void\)\s*)?\w+\(.*\);$")
STEP = re.compile(r"^\s+(?:[\w>.\-\[\]]+(?:\+\+|--)|(?:\+\+|--)[\w>.\-\[\]]+);$")
JUMP = re.compile(r"^\s+(?:break|continue|return|goto)\b")
QUIET = re.compile(r"\b(?:log_write|assert|static_assert|va_start|va_end|UNUSED|SHM_POINT)\b|^\s*\(void\)\w+;")
BACK = {"void": "return;", "int": "return 0;", "bool": "return false;", "size_t": "return 0;", "uint64_t": "return 0;"}


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str
    line: int  # from 1; the line that is changed, or before which one is inserted
    rule: str
    before: str
    after: str
    inserted: bool = False

    @property
    def key(self):
        """Its name as long as the line's text stays: where the line stands does not matter."""
        return f"{self.file} | {self.rule} | {self.before.strip()} | {self.after.strip()}"

    @property
    def rank(self):
        return hashlib.sha256(self.key.encode()).hexdigest()

    def apply(self, text):
        lines = text.split("\n")
        if self.inserted:
            lines.insert(self.line - 1, self.after)
        else:
            assert lines[self.line - 1] == self.before, self
            lines[self.line - 1] = self.after
        return "\n".join(lines)


def hide(text):
    """The text with what stands in comments and literals blanked out, at the same places."""
    def blank(match):
        found = match[0]
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + "_" * (len(found) - 2) + found[-1]
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.DOTALL)


def bodies(shown):
    """(line of the opening brace, line of the closing one), from 0, of each function."""
    opened = None
    for number, line in enumerate(shown):
        if line == "{":
            opened = number
        elif line == "}" and opened is not None:
            yield opened, number
            opened = None


def quiet_lines(shown):
    """Lines of statements that are not mutated."""
    quiet, inside = set(), False
    for number, line in enumerate(shown):
        if inside or QUIET.search(line):
            quiet.add(number)
            inside = not line.rstrip().endswith((";", "{", "}"))
    return quiet


def swaps(pattern, changes, shown, text):
    for match in pattern.finditer(shown):
        found = match[1] or match[0]
        if found in changes:
            start = match.start(1) if match[1] else match.start()
            yield text[:start] + changes[found] + text[start + len(found):]


def numbers(text, start):
    for match in NUMBER.finditer(text, start):
        value = int(match[1], 8 if re.fullmatch(r"0\d+", match[1]) else 0)
        changed = value * 2 if value >= 16 else value + 1
        yield text[:match.start(1)] + str(changed) + text[match.end(1):]


def may_go(shown, number):
    """Whether the statement on this line is one by itself, and no declaration."""
    line = shown[number]
    if not (ASSIGNMENT.match(line) or CALL.match(line) or STEP.match(line)) or DECLARATION.match(line) or JUMP.match(line):
        return False
    if line.count("(") != line.count(")") or line.count("{") != line.count("}"):
        return False
    before = next((shown[i].rstrip() for i in range(number - 1, -1, -1) if shown[i].strip()), "")
    return before.endswith((";", "{", "}", ":", ")")) or before.endswith("else")


def mutants_of_body(file, lines, shown, opened, closed, quiet):
    head = " ".join(shown[max(0, opened - 3):opened])
    kind = re.search(r"(?:^|[;}] *)(?:static |inline )*(\w+) (?=\w+\([^;{}]*\)\s*$)", head)
    if kind and kind[1] in BACK and closed - opened > 4:
        yield Mutant(file, opened + 2, "early return", lines[opened + 1], "    " + BACK[kind[1]], inserted=True)
    for number in range(opened + 1, closed):
        line, seen = lines[number], shown[number]
        if number in quiet or not seen.strip():
            continue
        for rule, pattern, changes in (("turned", COMPARISON, TURNED), ("off by one", COMPARISON, OFF_BY_ONE),
                                       ("arithmetic", ARITHMETIC, ARITHMETIC_TO), ("logic", LOGIC, {"&&": "||", "||": "&&"}),
                                       ("truth", TRUTH, {"true": "false", "false": "true"})):
            for after in swaps(pattern, changes, seen, line):
                yield Mutant(file, number + 1, rule, line, after)
        if may_go(shown, number):
            indent = line[:len(line) - len(line.lstrip())]
            yield Mutant(file, number + 1, "removed", line, f"{indent};")


def mutants_of(file, text):
    """All mutants of a source file, in no order that matters."""
    lines, shown = text.split("\n"), hide(text).split("\n")
    quiet = quiet_lines(shown)
    for number, seen in enumerate(shown):
        match = DEFINE.match(seen)
        if match and "(" not in match[1].replace("UINT64_C(", "").lstrip("("):
            for after in numbers(lines[number], match.start(1)):
                yield Mutant(file, number + 1, "constant", lines[number], after)
    for opened, closed in bodies(shown):
        yield from mutants_of_body(file, lines, shown, opened, closed, quiet)


def choose(mutants, count):
    """So many of one file's mutants, of all rules in turn; the same ones as long as the text stays. One constant at most: many are
    sizes that any value would do for."""
    by_rule = {}
    for mutant in sorted(set(mutants), key=lambda m: m.rank):
        if mutant.rule != "constant" or mutant.rule not in by_rule:
            by_rule.setdefault(mutant.rule, []).append(mutant)
    chosen = []
    while len(chosen) < count and any(by_rule.values()):
        for rule in sorted(by_rule):
            if by_rule[rule] and len(chosen) < count:
                chosen.append(by_rule[rule].pop(0))
    return chosen
