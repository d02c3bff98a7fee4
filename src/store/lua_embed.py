"""Write the Lua scripts as one C source: lua_embed.py [--salt WORD] OUTPUT.c INPUT.lua...

A line `--@include NAME` is replaced by the file NAME beside the script. Comments, indentation and
blank lines are left out, so that a script's name (the SHA-1 of its text, by which Redis calls it)
changes only with its code. A salt is a statement that does nothing: the scripts of another version,
for tests.
"""

import hashlib
import os
import sys


def code(path, seen):
    if path in seen:
        sys.exit(f"lua_embed: {path}: includes itself")
    lines = []
    with open(path, encoding="ascii") as file:
        for line in file:
            line = line.strip()
            if line.startswith("--@include "):
                inner = os.path.join(os.path.dirname(path), line.split()[1])
                lines += code(inner, seen | {path})
            elif line and not line.startswith("--"):
                lines.append(line)
    return lines


def main():
    arguments = sys.argv[1:]
    salt = ""
    if arguments[0] == "--salt":
        salt = f"local _ = '{arguments[1]}'\n"
        arguments = arguments[2:]
    out = ['#include "store/script.h"\n', "const struct script store_scripts[SCRIPT_COUNT] = {"]
    for path in arguments[1:]:
        name = os.path.splitext(os.path.basename(path))[0]
        text = salt + "\n".join(code(path, set())) + "\n"
        sha = hashlib.sha1(text.encode()).hexdigest()
        out.append(f"    [SCRIPT_{name.upper()}] = {{")
        out.append(f'        .name = "{name}",')
        out.append(f'        .sha = "{sha}",')
        out.append(f"        .bytes = {len(text)},")
        out.append("        .text =")
        for line in text.splitlines():
            escaped = line.replace("\\", "\\\\").replace('"', '\\"')
            out.append(f'            "{escaped}\\n"')
        out[-1] += ","
        out.append("    },")
    out.append("};\n")
    with open(arguments[0], "w", encoding="ascii") as file:
        file.write("\n".join(out))


main()
