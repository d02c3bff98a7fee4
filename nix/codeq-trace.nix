# The tracer. The only derivation that compiles BPF, and so the only one with less hardening.
{ lib, stdenv, meson, ninja, pkg-config, python3, clang, bpftools, libbpf, elfutils, zlib, cjson, src, version, hardeningDisable }:
stdenv.mkDerivation {
  pname = "codeq-trace";
  inherit version src hardeningDisable;
  nativeBuildInputs = [ meson ninja pkg-config python3 clang bpftools ];
  # libbpf.pc names libelf and zlib in Requires.private, so they must be found too.
  buildInputs = [ libbpf elfutils zlib cjson ];
  mesonBuildType = "debugoptimized";
  mesonFlags = [ "-Dscheduler=false" "-Dbench=false" "-Dtests=false" ];
  meta = {
    description = "Live tracer of Redis traffic, leases, system calls and CPU time with eBPF";
    license = with lib.licenses; [ mit gpl2Only ];
    platforms = lib.platforms.linux;
    mainProgram = "codeq-trace";
  };
}
