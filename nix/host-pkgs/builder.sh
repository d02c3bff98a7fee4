# shellcheck shell=bash disable=SC2154,SC2086,SC1091
# The phases of stdenv for meson projects: unpack, configure, build, check, install.
source "$stdenv/setup"
set -eu
export HOME=/homeless-shelter
phase() {
  local v=${1}Phase
  echo "$1 phase"
  if [ -n "${!v-}" ]; then eval "${!v}"; else "default_$1"; fi
}
default_build() { ninja -j "${NIX_BUILD_CORES:-1}"; }
default_check() { meson test --no-rebuild --print-errorlogs ${mesonCheckFlags-}; }
default_install() { meson install --no-rebuild; }
if [ -n "${buildCommandPath-}" ]; then
  source "$buildCommandPath"
else
  cp -r "$src" source && chmod -R u+w source && cd source
  meson setup build --prefix="$out" --libdir=lib --buildtype="${mesonBuildType-plain}" \
    -Dauto_features=enabled --wrap-mode=nodownload ${mesonFlags-} && cd build
  phase build
  if [ -n "${doCheck-}" ]; then phase check; fi
  phase install
fi
: # Nix kills a builder that still runs once its log is closed: never end in an exec (NixOS/nix#2176)
