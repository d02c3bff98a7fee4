#!/usr/bin/env python3
"""help2doc.py man|bash|zsh|fish PROGRAM SECTION: a manual page or a shell's completions, on stdout.

Both are read from what the built PROGRAM prints for --help, and for each of its subcommands'
--help, so they cannot say what the program does not. The form of --help is that of STYLE: a
sentence, "usage:", then blocks "heading:" of lines indented by two.
"""
import re
import subprocess
import sys

ITEM = re.compile(r"^ {2}(\S.*?)(?: {2,}(\S.*))?$")
TIGHT = re.compile(r"^ {2}(--?\S+ [A-Z][^a-z\s]*) ([a-z].*)$")  # no room for a second space
OPTION = re.compile(r"(--[a-z0-9][a-z0-9-]*)(?:[ =]([A-Z][A-Za-z0-9_|\[\],.:]*|[a-z]+(?:\|[a-z]+)+))?")
COMMAND = re.compile(r"^[a-z][a-z-]*$")


def help_of(program, *words):
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0 or not done.stdout:
        sys.exit(f"help2doc: {program} {' '.join(words)} --help: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def parse(text):
    """-> (sentence, usage lines, [(heading, [lines])]); the text between is a block of heading ''."""
    lines = text.rstrip("\n").split("\n")
    sentence, usage, blocks = [], [], []
    at = 0
    while at < len(lines) and lines[at].strip():
        sentence.append(lines[at].strip())
        at += 1
    block = ("", [])
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("usage:"):
            usage.append(line[len("usage:"):].strip())
            while at < len(lines) and lines[at].startswith("   "):
                usage.append(lines[at].strip())
                at += 1
            block = ("", [])
            blocks.append(block)
        elif line and not line[0].isspace() and line.endswith(":"):
            block = (line[:-1], [])
            blocks.append(block)
        else:
            if not blocks:
                blocks.append(block)
            block[1].append(line)
    return " ".join(sentence), usage, [(h, ls) for h, ls in blocks if any(l.strip() for l in ls)]


def items(lines):
    """-> [(term, text)] of the lines that are "  term   text", continuations joined."""
    found = []
    for line in lines:
        match = TIGHT.match(line) or ITEM.match(line)
        if match:
            found.append([match[1], match[2] or ""])
        elif found and line.startswith("    ") and line.strip():
            found[-1][1] = (found[-1][1] + " " + line.strip()).strip()
    return [tuple(item) for item in found]


def is_example(heading):
    return heading.startswith("example")


def commands_of(blocks):
    return [
        (term, text)
        for heading, lines in blocks
        if not is_example(heading) and not heading.startswith(("environment", "exit"))
        for term, text in items(lines)
        if COMMAND.match(term) and text
    ]


def options_of(blocks):
    """-> {name: (argument or None, text)}"""
    found = {}
    for heading, lines in blocks:
        if is_example(heading):
            continue
        for term, text in items(lines):
            if term.startswith("-"):
                for name, argument in OPTION.findall(term):
                    found.setdefault(name, (argument or None, text))
    return found


# ---- manual page ----


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def man_blocks(blocks, level):
    out = []
    for heading, lines in blocks:
        if heading:
            out.append(f".{level} {roff(heading).upper() if level == 'SH' else roff(heading)}")
        else:
            out.append(".PP")
        found = items(lines)
        if is_example(heading) or not found:
            indented = any(line.startswith(" ") for line in lines)
            out += [".nf" if indented else ".PP"]
            out += [roff(line) if line.strip() else ".PP" for line in lines]
            out += [".fi"] if indented else []
        else:
            for term, text in found:
                out += [".TP", f".B {roff(term)}", roff(text or " ")]
            rest = [l.strip() for l in lines if l.strip() and not l.startswith(" ")]
            out += [".PP"] + [roff(line) for line in rest] if rest else []
    return out


def man(name, section, top, subs):
    sentence, usage, blocks = top
    out = [f'.TH {name.upper()} {section} "" codeq\\-lab', ".SH NAME"]
    first = sentence
    for start in (f"{name} ", f"{name}: "):
        first = first[len(start):] if first.startswith(start) else first
    out += [f"{roff(name)} \\- {roff(first.split(';')[0].rstrip('.'))}", ".SH SYNOPSIS", ".nf"]
    out += [roff(line) for line in usage] + [".fi", ".SH DESCRIPTION", roff(sentence)]
    out += man_blocks(blocks, "SH")
    if subs:
        out.append(".SH COMMANDS IN DETAIL")
    for sub, (sub_sentence, sub_usage, sub_blocks) in subs.items():
        out += [f".SS {roff(name)} {roff(sub)}", roff(sub_sentence), ".PP", ".nf"]
        out += [roff(line) for line in sub_usage] + [".fi"]
        for heading, lines in sub_blocks:
            out += [".PP", f".I {roff(heading)}"] if heading else []
            out += man_blocks([("", lines)], "SS") if not is_example(heading) else [
                ".nf", *[roff(line) for line in lines if line.strip()], ".fi"]
    return out


# ---- completions ----


def quote(text):
    return text.replace("'", "'\\''")


def bash(name, top, subs):
    function = "_" + name.replace("-", "_")
    subcommands = " ".join(subs)
    out = [f"# bash completion for {name}; made from its --help", f"{function}()", "{"]
    out += ["    local cur=${COMP_WORDS[COMP_CWORD]} words= sub=${COMP_WORDS[1]}", "    case $sub in"]
    common = " ".join(options_of(top[2]))
    for sub, (_, _, blocks) in subs.items():
        names = " ".join(dict.fromkeys([*options_of(blocks), *common.split(), "--help"]))
        out.append(f"        {sub}) words='{names}' ;;")
    out += [f"        *) words='{' '.join(dict.fromkeys([*common.split(), '--help']))}' ;;", "    esac"]
    if subs:
        out += ["    if [ \"$COMP_CWORD\" -eq 1 ] && [[ $cur != -* ]]; then", f"        words='{subcommands}'", "    fi"]
    out += ["    if [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then",
            "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")", "    fi", "}",
            f"complete -o default -o bashdefault -F {function} {name}"]
    return out


def zsh_specs(options):
    specs = []
    for option, (argument, text) in options.items():
        text = quote(text.replace("[", "(").replace("]", ")").replace(":", "\\:"))
        tail = f":{argument.replace(':', ' ')}:_files" if argument else ""
        specs.append(f"'{option}[{text}]{tail}'")
    return specs


def zsh(name, top, subs):
    out = [f"#compdef {name}", f"# made from {name} --help"]
    common = options_of(top[2])
    if not subs:
        return out + ["_arguments \\"] + [f"  {spec} \\" for spec in zsh_specs(common)] + ["  '*:file:_files'"]
    out += ["if (( CURRENT == 2 )); then", "  local -a commands", "  commands=("]
    texts = dict(commands_of(top[2]))
    out += [f"    '{sub}:{quote(texts.get(sub, ''))}'" for sub in subs]
    out += ["  )", f"  _describe command commands", "  _arguments " + " ".join(zsh_specs(common)), "  return", "fi",
            "case $words[2] in"]
    for sub, (_, _, blocks) in subs.items():
        options = {**options_of(blocks), **common}
        out += [f"  {sub})", "    _arguments \\"] + [f"      {spec} \\" for spec in zsh_specs(options)]
        out += ["      '*:file:_files'", "    ;;"]
    return out + ["esac"]


def fish(name, top, subs):
    out = [f"# fish completion for {name}; made from its --help"]
    texts = dict(commands_of(top[2]))
    for sub in subs:
        out.append(f"complete -c {name} -n __fish_use_subcommand -a {sub} -d '{quote(texts.get(sub, ''))}'")

    def lines(options, condition):
        for option, (argument, text) in options.items():
            out.append(f"complete -c {name}{condition} -l {option[2:]}{' -r' if argument else ''} -d '{quote(text)}'")

    lines(options_of(top[2]), "")
    for sub, (_, _, blocks) in subs.items():
        lines(options_of(blocks), f" -n '__fish_seen_subcommand_from {sub}'")
    return out


def main():
    kind, program, section = sys.argv[1:4]
    name = program.rsplit("/", 1)[-1]
    top = parse(help_of(program))
    subs = {}
    for sub, _ in commands_of(top[2]):
        subs[sub] = parse(help_of(program, sub))
    if kind == "man":
        lines = man(name, section, top, subs)
    else:
        lines = {"bash": bash, "zsh": zsh, "fish": fish}[kind](name, top, subs)
    print("\n".join(lines))


main()
