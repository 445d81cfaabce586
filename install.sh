#!/bin/sh
# Installs Parler for this user, from this checkout. `./install.sh --help` says what else it does.
#
# POSIX sh, because a fresh machine has python3 and git and maybe nothing else. What is needed beyond them comes from the
# Python package index. Nothing is written into the checkout, but for `.venv` by --test.
#
# An install is built beside the one in use and proved by the demo before it takes its place, so a failed upgrade changes
# nothing. Agent hosts and the daemon are started with <data>/venv/bin/python: a link that is replaced in one step, so that
# path stays true across upgrades.
set -eu
# What others could write could be made to run as this user: nothing that is made here is writable by anybody else,
# whatever this shell was told before.
umask 022

usage() {
    cat <<'EOF'
usage: ./install.sh [--postgres | --test | --uninstall | --help]

  (nothing)     install `parler` for this user, or bring an older install up to this checkout; run the demo
  --postgres    the same, with what a relay needs whose rooms are in PostgreSQL; a later install keeps it
  --test        set up what the tests need in .venv and run all of them
  --uninstall   stop the daemon, take Parler out again, and leave your data in ~/.parler

Parler goes to ~/.local/share/parler (or $XDG_DATA_HOME/parler), with links in ~/.local/bin.
EOF
}

say() { printf '%s\n' "$*"; }

# die WHAT NEXT: end with what is wrong and what to do about it.
die() {
    printf '\ninstall.sh: %s\n' "$1" >&2
    printf '  %s\n' "$2" >&2
    exit 1
}

[ -n "${HOME:-}" ] || die "HOME is not set." "Set it to your home directory and run this again."
case $HOME in
    /*) ;;
    *) die "HOME is '$HOME', which is no absolute path." "Set it to your home directory and run this again." ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
# A relative one is to be ignored. Source: XDG base directory specification.
case ${XDG_DATA_HOME:-} in
    /*) data=$XDG_DATA_HOME/parler ;;
    *) data=$HOME/.local/share/parler ;;
esac
bin=$HOME/.local/bin
commands="parler parlerd"

# Another Python's settings must not reach the ones that are made here.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_TARGET PIP_PREFIX
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

work=
fresh=
lock=
clean_up() {
    [ -z "$lock" ] || rm -rf "$lock"
    [ -z "$work" ] || rm -rf "$work"
    # Interrupted at the very moment it was put in place, it is the install.
    [ -z "$fresh" ] || [ "$fresh" -ef "$data/venv" ] || rm -rf "$fresh"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# -- what an environment is made with ---------------------------------------------------------------------------

# Sets `uv` (empty when there is none) and `python`: the first Python that will do, by its real path.
find_tools() {
    uv=$(command -v uv || true)
    python=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        # A version manager's shim may be there and lead nowhere, so each is run. Asked for the interpreter behind a virtual
        # environment too: one that was active by chance may be deleted later.
        found=$("$name" -I -c '
import sys
if sys.version_info >= (3, 11):
    import sqlite3, ssl, venv
    print(getattr(sys, "_base_executable", None) or sys.executable)
' 2>/dev/null </dev/null) || found=
        if [ -n "$found" ]; then
            python=$found
            return 0
        fi
    done
    if [ -n "$uv" ]; then
        python=">=3.11" # uv fetches one
        return 0
    fi
    version=$(python3 --version 2>/dev/null </dev/null) || version="no python3 at all"
    die "Parler needs Python 3.11 or newer, with its sqlite3, ssl and venv modules. Found: $version." \
        "Install one (your system's packages, or python.org) and run this again."
}

# attempt WHAT COMMAND...: run it, quietly; once more if it fails, because a download may. Shows what it said if both fail.
attempt() {
    what=$1
    shift
    say "  $what"
    if "$@" >"$work/log" 2>&1 </dev/null; then
        return 0
    fi
    if [ -n "$uv" ] && [ -x "$python" ]; then
        # uv has certificates of its own, so it fails behind some proxies where pip does not; or it is too old for the lock.
        say "  that failed with uv; trying once more with pip"
        uv=
    else
        say "  that failed; trying once more"
    fi
    if "$@" >"$work/log" 2>&1 </dev/null; then
        return 0
    fi
    tail -n 25 "$work/log" | sed 's/^/    /' >&2
    die "$what: failed twice; what it said is above. Nothing was changed." \
        "Most often the network or a proxy is in the way: see that https://pypi.org opens, then run this again."
}

# Functions below that run under `attempt` chain with `&&`: the shell ignores `set -e` inside a condition.

# with_pip DIR: make a virtual environment at DIR if there is none, and set `pip` to what installs into it.
with_pip() {
    if ! "$1/bin/python" -I -c '' 2>/dev/null; then
        rm -rf "$1" && "$python" -I -m venv --without-pip "$1" || return 1
    fi
    if "$1/bin/python" -I -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    # Debian and Ubuntu keep ensurepip in a package of its own, which a fresh machine does not have.
    if "$1/bin/python" -I -c 'import ensurepip' 2>/dev/null; then
        "$1/bin/python" -I -m ensurepip --default-pip
    else
        # A wheel of pip runs as it is, and installs itself.
        wheel=$(fetch_pip "$1/bin/python" "$work") && "$1/bin/python" "$wheel/pip" install "$wheel"
    fi
}

# fetch_pip PYTHON DIR: put the newest pip from the package index into DIR, its checksum compared; prints the file.
fetch_pip() {
    "$1" -I - "$2" <<'EOF'
import hashlib, pathlib, re, sys, urllib.parse, urllib.request

INDEX = "https://pypi.org/simple/pip/"
LINK = re.compile(r'<a href="([^"]+/pip-([0-9.]+)-py3-none-any\.whl)#sha256=([0-9a-f]{64})"([^>]*)>')

def get(url):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": "text/html, */*"}), timeout=60) as answer:
        return answer.read()

found = [link for link in LINK.findall(get(INDEX).decode()) if "data-yanked" not in link[3]]
url, version, digest, _ = max(found, key=lambda link: [int(number) for number in link[1].split(".")])
wheel = get(urllib.parse.urljoin(INDEX, url))
if hashlib.sha256(wheel).hexdigest() != digest:
    sys.exit("the checksum of pip is not the one that the index gives")
path = pathlib.Path(sys.argv[1], f"pip-{version}-py3-none-any.whl")
path.write_bytes(wheel)
print(path)
EOF
}

# constraints: the versions that uv.lock fixes, in pip's words. A package that it fixes per platform is left to pip.
constraints() {
    "$python" -I - "$here/uv.lock" <<'EOF'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    packages = [package for package in tomllib.load(file)["package"] if "registry" in package["source"]]
names = [package["name"] for package in packages]
for package in packages:
    if names.count(package["name"]) == 1:
        print(f"{package['name']}=={package['version']}")
EOF
}

# dev_requirements: the group `dev` of pyproject.toml; pip itself reads groups only since 25.1.
dev_requirements() {
    "$python" -I - "$here/pyproject.toml" <<'EOF'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    print("\n".join(tomllib.load(file)["dependency-groups"]["dev"]))
EOF
}

# build DIR: an environment of its own at DIR with Parler in it, not tied to this checkout.
build() {
    if [ -n "$uv" ]; then
        # Reinstalled, because uv takes a checkout whose version did not change for one whose code did not.
        UV_PROJECT_ENVIRONMENT=$1 "$uv" sync --project "$here" --python "$python" --frozen --no-dev --no-editable \
            --compile-bytecode --reinstall-package parlerd ${extra:+--extra "$extra"}
    else
        with_pip "$1" &&
            constraints >"$work/constraints.txt" &&
            "$1/bin/python" -I -m pip install --constraint "$work/constraints.txt" "$here${extra:+[$extra]}"
    fi
}

# Whether the install that is there has what speaks to PostgreSQL.
has_postgres() { "$data/venv/bin/python" -I -c 'import psycopg' >/dev/null 2>&1 </dev/null; }

# build_for_tests: .venv in the checkout, with Parler as it stands there and what the tests need.
build_for_tests() {
    if [ -n "$uv" ]; then
        UV_PROJECT_ENVIRONMENT=$here/.venv "$uv" sync --project "$here" --python "$python" --frozen
    else
        with_pip "$here/.venv" &&
            constraints >"$work/constraints.txt" &&
            dev_requirements >"$work/dev.txt" &&
            "$here/.venv/bin/python" -I -m pip install --constraint "$work/constraints.txt" \
                --requirement "$work/dev.txt" --editable "$here"
    fi
}

# -- install ----------------------------------------------------------------------------------------------------

# is_ours LINK: whether a link in ~/.local/bin is one that this made.
is_ours() {
    [ -L "$1" ] || return 1
    case $(readlink "$1") in
        "$data"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# take_lock: be the only one that changes <data>, or say who is. A folder is made by one alone, on every system; the
# process that made it is named in it, and one that is gone holds nothing.
take_lock() {
    mkdir -p "$(dirname "$data")" || die "$(dirname "$data") cannot be made." "Make it yours and run this again."
    for try in 1 2 3; do
        if mkdir "$data.lock" 2>/dev/null; then
            lock=$data.lock
            echo $$ >"$lock/pid"
            return 0
        fi
        # Gone again, or never there.
        [ -d "$data.lock" ] || continue
        holder=$(cat "$data.lock/pid" 2>/dev/null) || holder=
        if [ -z "$holder" ]; then
            # Between the folder and its line a moment passes.
            sleep 1
            holder=$(cat "$data.lock/pid" 2>/dev/null) || holder=
        fi
        is_running "$holder" && refuse_two "$holder"
        # Taken away under another name first: of two that find it dead, one alone can do that.
        mv "$data.lock" "$data.lock.$$" 2>/dev/null || continue
        taken=$(cat "$data.lock.$$/pid" 2>/dev/null) || taken=
        if is_running "$taken"; then
            # Another was quicker, and this is its lock by now.
            mv "$data.lock.$$" "$data.lock" 2>/dev/null || true
            refuse_two "$taken"
        fi
        rm -rf "$data.lock.$$"
    done
    die "$data.lock cannot be made." "Make $(dirname "$data") yours, remove that folder if it is there, and run this again."
}

# is_running PID: whether there is such a process.
is_running() {
    case $1 in
        '' | *[!0-9]*) return 1 ;;
        *) kill -0 "$1" 2>/dev/null ;;
    esac
}

refuse_two() {
    die "Another install.sh (process $1) is at work. Nothing was changed." \
        "Wait until it is done and run this again; if that process is something else, remove $data.lock first."
}

# check_starts: whether scripts can be started by the path that they will have. Where the first line of a script cannot
# hold the path of its interpreter (a blank, or more bytes than a kernel reads), what installs it writes two lines of
# shell instead, in which some characters mean something else.
check_starts() {
    line="#!$data/versions/XXXXXXXX/bin/python"
    case $data in
        *[[:cntrl:]]*) odd=yes ;;
        *[\$\`\"\'\\]*) case $data in *[[:space:]]*) odd=yes ;; *) [ "${#line}" -le 127 ] && odd= || odd=yes ;; esac ;;
        *) odd= ;;
    esac
    [ -z "$odd" ] || die "No program could be started from $data: its path has a blank or is long, and has a sign that \
the shell reads. Nothing was changed." \
        "Set XDG_DATA_HOME to a folder with a plain path, and run this again."
}

# close_up: take from everybody else what lets them write into what is installed: packages come out of a cache as they
# were put there. Then look whether that was done.
close_up() {
    chmod -R go-w "$fresh"
    chmod go-w "$data" "$data/versions"
    open=$(find "$fresh" ! -type l \( -perm -0002 -o -perm -0020 \) | head -n 1)
    [ -n "$open" ] || open=$(find "$data" "$data/versions" "$bin" -prune -perm -0002 | head -n 1)
    [ -z "$open" ] || die "$open can be written by other users, who could put a program of theirs there. \
Nothing was changed." \
        "Run: chmod go-w '$open'"
}

# put_in_place: let <data>/venv lead to the environment at $fresh. Its scripts name the interpreter by the path they were
# built under; they are made to name it by the link.
put_in_place() {
    "$fresh/bin/python" -I - "$fresh" "$data/venv" <<'EOF'
import os, pathlib, sys

fresh, stable = sys.argv[1:]
for script in pathlib.Path(fresh, "bin").iterdir():
    if script.is_symlink() or not script.is_file():
        continue
    content = script.read_bytes()
    if content.startswith(b"#!"):
        script.write_bytes(content.replace(os.fsencode(fresh), os.fsencode(stable)))
link = stable + ".new"
if os.path.lexists(link):
    os.unlink(link)
os.symlink(os.path.relpath(fresh, os.path.dirname(stable)), link)
os.replace(link, stable)
EOF
}

install() {
    for name in $commands; do
        if [ -e "$bin/$name" ] || [ -L "$bin/$name" ]; then
            is_ours "$bin/$name" || die "$bin/$name is there already and is not from this installer." \
                "Move it away, or uninstall what put it there, and run this again."
        fi
    done
    check_starts
    find_tools
    take_lock
    work=$(mktemp -d "${TMPDIR:-/tmp}/parler-install.XXXXXX")
    mkdir -p "$data/versions" "$bin" || die "$data and $bin cannot be made." "Make them yours and run this again."
    fresh=$(mktemp -d "$data/versions/XXXXXXXX")
    if has_postgres; then extra=postgres; fi
    say "Installing Parler for $(id -un) into $data"
    attempt "building its environment (under a minute, the first time)" build "$fresh"

    say "  running the demo, before anything is put in place"
    # From the checkout, so that it has a repository to make its recap of.
    (cd "$here" && exec "$fresh/bin/python" -I -m _parler parler demo --no-next) ||
        die "The demo failed; what went wrong is above. Nothing was changed." \
            "Please report it with the lines above and these: $(uname -srm), $("$fresh/bin/python" --version)."

    close_up
    before=$(readlink "$data/venv" 2>/dev/null) || before=
    put_in_place
    # Asked at its final place, before what was there goes.
    if ! version=$("$data/venv/bin/parler" --version 2>/dev/null </dev/null); then
        if [ -n "$before" ]; then ln -sfn "$before" "$data/venv"; else rm -f "$data/venv"; fi
        die "What was built does not start at $data/venv. What was installed before is in its place again." \
            "Please report it with: $(uname -srm), $("$fresh/bin/python" --version)."
    fi
    kept=$fresh
    fresh=
    for name in $commands; do
        ln -sf "$data/venv/bin/$name" "$bin/$name"
    done
    if "$data/venv/bin/parler" daemon status >/dev/null 2>&1 </dev/null; then
        "$data/venv/bin/parler" daemon restart >/dev/null </dev/null ||
            die "Parler is installed, but the daemon that was running did not restart." "Run: $bin/parler doctor"
        restarted=" The daemon that was running now runs this version; agents go on where they were."
    else
        restarted=
    fi
    # A relay that this person runs, of this release or of an older one whose calls are others. Whoever is connected to
    # it comes back by itself.
    case "$("$data/venv/bin/parler" relay status --json 2>/dev/null </dev/null || true)" in
    *'"running":true'* | *'"unsupported_version"'*)
        { "$data/venv/bin/parler" relay stop && "$data/venv/bin/parler" relay start; } >/dev/null </dev/null ||
            die "Parler is installed, but the relay that was running did not restart." "Run: $bin/parler relay logs"
        restarted="$restarted The relay that was running does too."
        ;;
    esac
    for old in "$data"/versions/*; do
        [ "$old" = "$kept" ] || rm -rf "$old"
    done
    say ""
    say "Installed: $version.$restarted"
    parler=parler
    case ":$PATH:" in
        *":$bin:"*) ;;
        *)
            parler="~/.local/bin/parler" # to be typed, so it is left as it is
            say "~/.local/bin is not on your PATH. To type just \`parler\`, put this line into your shell's profile:"
            say "  export PATH=\"\$HOME/.local/bin:\$PATH\""
            ;;
    esac
    offer_to_connect
}

# offer_to_connect: the agents on this machine are connected if the person says so; else the line to type is the last one.
offer_to_connect() {
    if [ -t 0 ] && [ -t 1 ]; then
        say ""
        say "Parler can add itself to the settings of the agents on this machine. It keeps what is there and a copy of it."
        printf 'Connect them now? [y/N] '
        read -r answer || answer=
        case $answer in
            [yY] | [yY][eE][sS])
                say ""
                # What went wrong with one of them is said there, and the install stands.
                "$data/venv/bin/parler" connect || true
                return 0
                ;;
        esac
    fi
    say "To connect the agents on this machine, type this next (with --dry-run it only shows what it would change):"
    say "  $parler connect"
}

# -- uninstall --------------------------------------------------------------------------------------------------

uninstall() {
    home=${PARLER_HOME:-$HOME/.parler}
    connected=
    [ ! -e "$data" ] || take_lock
    # One that does not run any more (its Python is gone) is only removed.
    if "$data/venv/bin/parler" --version >/dev/null 2>&1 </dev/null; then
        "$data/venv/bin/parler" daemon stop >/dev/null </dev/null ||
            die "The daemon could not be stopped. Nothing was removed." "Run: $bin/parler doctor"
        # Only a version that writes into the settings of agent hosts has something to take out of them.
        if "$data/venv/bin/parler" connect --help </dev/null | grep -q -e '--remove'; then
            "$data/venv/bin/parler" connect --remove </dev/null ||
                die "Parler could not be taken out of an agent host's settings. Nothing was removed." \
                    "Mend what is named above and run this again."
        else
            connected="If you pasted Parler's entry into an agent host's settings, take it out there: it is called parler."
        fi
    fi
    removed=
    for name in $commands; do
        if is_ours "$bin/$name"; then
            rm -f "$bin/$name"
            removed=yes
        fi
    done
    if [ -d "$data" ]; then
        rm -rf "$data"
        removed=yes
    fi
    if [ -n "$lock" ]; then
        rm -rf "$lock"
        lock=
    fi
    # What install made on the way, if nobody uses it.
    rmdir "$bin" "$(dirname "$data")" "$HOME/.local" 2>/dev/null || true
    if [ -n "$removed" ]; then
        say "Parler is uninstalled. Agent windows that are still open have no Parler any more; it is back in them only if"
        say "you install it again."
    else say "Parler was not installed here."
    fi
    [ -z "$connected" ] || say "$connected"
    if [ -e "$home" ]; then
        say "Your keys and conversations stay in $home. To delete them for good: rm -r '$home'"
    fi
}

# -- test -------------------------------------------------------------------------------------------------------

# fetch_hosts: the real agent hosts that some tests ask. Without them those tests skip and say why.
fetch_hosts() {
    if [ "${PARLER_HOSTS:-1}" = 0 ]; then
        say "Agent hosts are left out (PARLER_HOSTS=0)."
        return 0
    fi
    say "Fetching the agent hosts that some tests ask (PARLER_HOSTS=0 leaves them out)"
    .venv/bin/python -m tests.e2e.hosts.install --limit 240 </dev/null || say "  Some are missing: the tests that ask them skip."
}

run_tests() {
    find_tools
    work=$(mktemp -d "${TMPDIR:-/tmp}/parler-install.XXXXXX")
    say "Setting up what the tests need in $here/.venv"
    attempt "installing (about a minute, the first time)" build_for_tests
    cd "$here"
    fetch_hosts
    sh ./check
}

# ---------------------------------------------------------------------------------------------------------------

[ $# -le 1 ] || { usage >&2; exit 2; }
extra=
case ${1:-} in
    "") install ;;
    --postgres) extra=postgres; install ;;
    --test) run_tests ;;
    --uninstall) uninstall ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
