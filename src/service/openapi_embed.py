"""Write a file as one C array: openapi_embed.py OUTPUT.c INPUT. JSON is checked and made compact."""

import json
import sys


def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        text = json.dumps(json.load(file), separators=(",", ":"), ensure_ascii=True).encode()
    rows = [text[i : i + 20] for i in range(0, len(text), 20)]
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write('#include "service/openapi.h"\n\n')
        file.write(f"const size_t openapi_bytes = {len(text)};\n")
        file.write("const char openapi_text[] = {\n")
        for row in rows:
            file.write("    " + " ".join(f"{byte}," for byte in row) + "\n")
        file.write("    0};\n")


main()
