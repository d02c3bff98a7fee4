# The scheduler: library codeq, service codeqd, and codeq-drive, which the laboratory runs.
{ lib, stdenv, meson, ninja, pkg-config, python3, hiredis, cjson, zlib, libev, llhttp, openssl, curl, valgrind, src, version }:
stdenv.mkDerivation {
  pname = "codeqd";
  inherit version src;
  nativeBuildInputs = [ meson ninja pkg-config python3 ];
  # valgrind: only its header, for the client requests that mark the measured region.
  buildInputs = [ hiredis cjson zlib libev llhttp openssl curl valgrind ];
  mesonBuildType = "debugoptimized"; # the hook's default, plain, leaves -O to the wrapper; -g names functions in profiles
  mesonFlags = [ "-Dbench=false" "-Debpf=false" "-Dtests=false" ];
  dontStrip = true; # profiles read the symbols
  meta = {
    description = "Lease-based task scheduler on Redis";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "codeqd";
  };
}
