# The laboratory. It links nothing of the scheduler: it runs codeq-drive and codeqd.
{ lib, stdenv, meson, ninja, pkg-config, python3, cjson, zlib, libev, valgrind, src, version }:
stdenv.mkDerivation {
  pname = "codeq-bench";
  inherit version src;
  nativeBuildInputs = [ meson ninja pkg-config python3 ];
  buildInputs = [ cjson zlib libev valgrind ];
  mesonBuildType = "debugoptimized";
  mesonFlags = [ "-Dscheduler=false" "-Debpf=false" "-Dtests=false" ];
  meta = {
    description = "Benchmark laboratory: measures, counts, profiles and compares commits of a scheduler";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "codeq-bench";
  };
}
