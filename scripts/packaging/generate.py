#!/usr/bin/env python3
"""Makes man pages and shell completion from the program's own table of options.

    paligrid --help --json | generate.py OUT_DIR

writes OUT_DIR/man1/paligrid.1, paligrid-COMMAND.1 and OUT_DIR/completions/paligrid (bash). Nothing is
written by hand, so nothing can drift from what the program takes.
"""
import json
import os
import sys

EXIT = """0 done; 1 done, but some records failed; 64 wrong options; 65 input that cannot be used, or too many
failures; 70 internal or communication; 71 memory; 74 files; 75 stopped early, the same command goes
on; 78 model or configuration."""


def roff(text):
    """Text as roff: backslashes, hyphens that are to be copied, and a first character that would be a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in ".'" else line for line in text.split("\n"))


def head(name, version, summary):
    return [f'.TH "{name.upper()}" 1 "" "paligrid {version.split()[0]}" "User Commands"', ".SH NAME",
            f"{name} \\- {roff(summary)}", ".SH SYNOPSIS"]


def option_lines(option):
    value = option["value"] or (option["choices"] if option["type"] == "choice" else None)
    key = f"\\fB\\-\\-{roff(option['key'])}\\fR" + (f" \\fI{roff(value)}\\fR" if value else "")
    if option["letter"]:
        key = f"\\fB\\-{option['letter']}\\fR, " + key
    notes = []
    if "min" in option:
        notes.append(f"{option['min']:g} to {option['max']:g}")
    if option["default"] is not None:
        notes.append(f"default: {option['default']}")
    return [".TP", key, roff(option["help"] + (f" ({'; '.join(notes)})" if notes else ""))]


def command_page(command, version):
    sentence = command["summary"].replace("\n", " ").split(". ")[0].rstrip(".")
    lines = head(f"paligrid-{command['name']}", version, sentence)
    lines += [f"\\fBpaligrid {command['name']}\\fR {roff(command['arguments'])}", ".SH DESCRIPTION", roff(command["summary"]), ".SH OPTIONS"]
    for option in command["options"]:
        lines += option_lines(option)
    return lines + [".SH EXIT STATUS", roff(EXIT), ".SH SEE ALSO", "\\fBpaligrid\\fR(1)", ""]


def main_page(table):
    lines = head("paligrid", table["version"], "PaliGemma 2 on any number of MPI ranks")
    lines += ["\\fBpaligrid\\fR \\fICOMMAND\\fR [options]", ".SH DESCRIPTION",
              "Answers prompts about images with PaliGemma 2. Alone or under a launcher (mpirun, srun \\-\\-mpi=pmix);", "each command has its own page and \\-\\-help.",
              ".SH COMMANDS"]
    for command in table["commands"]:
        lines += [".TP", f"\\fBpaligrid\\-{command['name']}\\fR(1)", roff(command["summary"].replace("\n", " "))]
    return lines + [".SH EXIT STATUS", roff(EXIT), ""]


def is_path(option):
    return bool(option["value"]) and option["type"] in ("text", "list") and option["value"].split(".")[0] in ("DIR", "FILE", "LIST", "NAME", "SRC")


def completion(table):
    names = " ".join(c["name"] for c in table["commands"])
    lines = ["# bash completion of paligrid; made from its table of options", "_paligrid()", "{",
             '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-}',
             "    COMPREPLY=()", "    if ((COMP_CWORD == 1)); then",
             f'        mapfile -t COMPREPLY < <(compgen -W "{names} --help --version" -- "$word")', "        return", "    fi",
             '    case $command:$before in']
    for c in table["commands"]:
        for o in c["options"]:
            keys = [f"{c['name']}:--{o['key']}"] + ([f"{c['name']}:-{o['letter']}"] if o["letter"] else [])
            if o["type"] == "choice":
                words = o["choices"].replace("|", " ")
                lines.append(f'    {" | ".join(keys)}) mapfile -t COMPREPLY < <(compgen -W "{words}" -- "$word") && return ;;')
            elif o["type"] != "flag" and not is_path(o):
                lines.append(f'    {" | ".join(keys)}) return ;;')
    lines += ["    esac", '    if [[ $word = -* ]]; then', "        case $command in"]
    for c in table["commands"]:
        words = " ".join("--" + o["key"] for o in c["options"])
        lines.append(f'        {c["name"]}) mapfile -t COMPREPLY < <(compgen -W "{words}" -- "$word") ;;')
    lines += ["        esac", "    else", '        mapfile -t COMPREPLY < <(compgen -f -- "$word")', "    fi", "}",
              "complete -o filenames -F _paligrid paligrid", ""]
    return lines


def write(path, lines):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("\n".join(lines))


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    table, out = json.load(sys.stdin), sys.argv[1]
    write(os.path.join(out, "man1", "paligrid.1"), main_page(table))
    for command in table["commands"]:
        write(os.path.join(out, "man1", f"paligrid-{command['name']}.1"), command_page(command, table["version"]))
    write(os.path.join(out, "completions", "paligrid"), completion(table))


main()
