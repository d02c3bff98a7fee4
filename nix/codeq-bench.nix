# The laboratory. It links nothing of the scheduler: it runs codeq-drive and codeqd.
{ lib, stdenv, fetchFromGitHub, meson, ninja, pkg-config, python3, cjson, zlib, libev, llhttp, openssl, valgrind, src, version }:
let
  # The report's charts; the repository holds the built files.
  uplot = fetchFromGitHub {
    owner = "leeoniya";
    repo = "uPlot";
    rev = "1.6.32";
    hash = "sha256-2kb1Psypd15iMH/Y2B2KRVe8hr5kG/PCbXW6+kfdUTw=";
  };
in
stdenv.mkDerivation {
  pname = "codeq-bench";
  inherit version src;
  nativeBuildInputs = [ meson ninja pkg-config python3 ];
  buildInputs = [ cjson zlib libev llhttp openssl valgrind ];
  mesonBuildType = "debugoptimized";
  mesonFlags = [ "-Dscheduler=false" "-Debpf=false" "-Dtests=false" "-Duplot=${uplot}/dist" ];
  meta = {
    description = "Benchmark laboratory: measures, counts, profiles and compares commits of a scheduler";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "codeq-bench";
  };
}
