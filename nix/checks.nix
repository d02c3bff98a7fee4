# What `nix flake check` builds. Each runs in the sandbox: no network, no /sys, only what it names.
{ pkgs, lib, ours, version, hardeningDisable, src, formatted }:
let
  # The whole tree with its tests; meson builds what the chosen suites need.
  suites = { name, suites, flags ? [ ], tools ? [ ], run ? "meson test --print-errorlogs ${lib.concatMapStringsSep " " (s: "--suite ${s}") suites}" }: pkgs.stdenv.mkDerivation {
    name = "codeq-check-${name}";
    inherit src;
    nativeBuildInputs = [ pkgs.meson pkgs.ninja pkgs.pkg-config pkgs.python3 ];
    buildInputs = [
      pkgs.hiredis pkgs.cjson pkgs.zlib pkgs.libev pkgs.llhttp pkgs.openssl pkgs.curl pkgs.cmocka pkgs.valgrind
    ];
    nativeCheckInputs = tools;
    inherit hardeningDisable;
    mesonBuildType = "debugoptimized";
    mesonFlags = [ "-Debpf=false" "-Dtests=true" ] ++ flags;
    buildPhase = ":";
    doCheck = true;
    checkPhase = ''
      ${run}
    '';
    installPhase = ''
      cat meson-logs/testlog*.txt > $out
    '';
  };
in
{
  inherit (ours) codeq-trace; # its build: the BPF programs compile and their skeletons are made

  unit = suites { name = "unit"; suites = [ "unit" ]; };
  redis = suites { name = "redis"; suites = [ "redis" ]; tools = [ pkgs.redis ]; };
  sanitizers = suites {
    name = "sanitizers";
    suites = [ "unit" "redis" ];
    tools = [ pkgs.redis ];
    flags = [ "-Db_sanitize=address,undefined" "-Db_lundef=false" ];
  };
  valgrind = suites {
    name = "valgrind";
    suites = [ "unit" ];
    tools = [ pkgs.valgrind ];
    # But for the statistics, which draw millions of random samples: ten minutes under Valgrind.
    run = ''
      meson test --list --suite unit | sed 's|.* / ||' |
        grep -vxE 'bench (stats|verdict|trend|steady|rank|pairs|selftest)' > names
      xargs -d '\n' meson test --setup=memcheck --print-errorlogs < names
    '';
  };

  # Measures in the sandbox, with nothing on PATH: what the wrapper does not bring is missing.
  bench = pkgs.runCommand "codeq-check-bench" { meta = { }; } ''
    mkdir empty
    program=${lib.getExe ours.codeq-bench}
    export HOME=$PWD TMPDIR=$PWD
    PATH=$PWD/empty $program run scheduler-create-claim-complete --quick --out $out
    PATH=$PWD/empty $program verify --results $out
  '';

  format = pkgs.runCommand "codeq-check-format" { meta = { }; nativeBuildInputs = [ pkgs.clang-tools ]; } ''
    cd ${formatted}
    find src bench ebpf -name '*.[ch]' ! -name 'vmlinux*' -print0 | xargs -0 clang-format --dry-run -Werror --style=file
    touch $out
  '';
}
