# shellcheck shell=bash disable=SC2154,SC2086
# Links the host's files into $out; a missing one names the Debian package to install.
PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/run/from-npm
set -eu
mkdir -p "$out/bin" "$out/lib/pkgconfig"
missing() {
  echo "host-pkgs: no $1 on this machine; install it with: apt-get install $apt" >&2
  exit 1
}
for b in $bin; do # a wrapper, not a link: some (valgrind) look beside themselves for their parts
  f=$(type -P "$b") || missing "$b"
  if [[ $f == /run/from-npm/* ]]; then # one static file, bound here for the build only
    cp "$f" "$out/bin/$b"
    continue
  fi
  printf '#!/bin/sh\nexec %s "$@"\n' "$f" >"$out/bin/$b"
  chmod +x "$out/bin/$b"
done
for p in $pc; do
  d=$(pkg-config --variable=pcfiledir "$p") || missing "$p.pc"
  ln -s "$d/$p.pc" "$out/lib/pkgconfig/$p.pc"
done
for m in $py; do # in the host's python3, which the wrapper starts
  python3 -c "import $m" || missing "python module $m"
done
for h in $header; do # /usr/include is in every build's sight, so this only proves that it is there
  [ -e "/usr/include/$h" ] || missing "$h"
done
