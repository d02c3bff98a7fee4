# What `nix flake check` builds. Each runs in the sandbox: no network, no /sys, only what it names.
{ pkgs, lib, ours, default, runners, version, hardeningDisable, src, formatted }:
let
  inputs = {
    nativeBuildInputs = [ pkgs.meson pkgs.ninja pkgs.pkg-config pkgs.python3 ];
    buildInputs = [
      pkgs.hiredis pkgs.cjson pkgs.zlib pkgs.libev pkgs.llhttp pkgs.openssl pkgs.curl pkgs.cmocka pkgs.valgrind
    ];
  };
  # -O1 -g1 compiles in two thirds of the time; what ships is compiled as it ships, in its own derivation.
  flags = "-Debpf=false -Dtests=true -Doptimization=1 -Dc_args=-g1";

  # The statistics draw millions of random samples: ten minutes under Valgrind, and half of the unit
  # suite's time without. `unit` runs them.
  names = "meson test --no-rebuild --list --suite unit | sed 's|.* / ||'";
  withoutStatistics = "${names} | grep -vxE 'bench (stats|verdict|trend|steady|rank|pairs|selftest)' > names && grep -qx 'base json' names";

  # Starts nothing: only what the selected tests need is compiled.
  testTargets = "meson test --wrapper true --suite unit --suite redis > /dev/null || { cat meson-logs/*; exit 1; }";

  # The tree with its unit and Redis tests, compiled once for all the checks that run them.
  tests = pkgs.stdenv.mkDerivation (inputs // {
    name = "codeq-built-tests";
    inherit src;
    mesonBuildType = "plain";
    mesonFlags = lib.splitString " " flags;
    buildPhase = testTargets;
    installPhase = ''
      find . -name '*.o' -delete
      rm meson-logs/*
      pwd > built-in
      cp -r .. $out
    '';
    dontFixup = true; # as the compiler left it: Valgrind reads the symbols
  });

  # Meson's list of tests holds absolute paths: a copy runs where it was built, which in a sandbox is
  # the same folder always. Without a sandbox it is compiled again.
  suite = name: tools: run: pkgs.runCommand "codeq-check-${name}" (inputs // {
    nativeBuildInputs = inputs.nativeBuildInputs ++ tools;
    inherit hardeningDisable;
    meta = { };
  }) ''
    cp -r ${tests} "$NIX_BUILD_TOP/source"
    chmod -R u+w "$NIX_BUILD_TOP/source"
    cd "$NIX_BUILD_TOP/source"
    if [ "$PWD/build" != "$(cat build/built-in)" ]; then
      rm -rf build
      meson setup build ${flags}
      (cd build && ${testTargets})
    fi
    cd build
    ${run}
    cat meson-logs/testlog*.txt > $out
  '';
in
{
  inherit (ours) codeq-trace; # its build: the BPF programs compile and their skeletons are made

  unit = suite "unit" [ ] "meson test --no-rebuild --print-errorlogs --suite unit";

  # They wait more than they compute: timeouts, killed servers, lost leases.
  redis = suite "redis" [ pkgs.redis ] "meson test --no-rebuild --print-errorlogs --num-processes 12 --suite redis";

  valgrind = suite "valgrind" [ pkgs.valgrind ] ''
    ${withoutStatistics}
    xargs -d '\n' meson test --no-rebuild --setup=memcheck --print-errorlogs --suite unit < names
  '';

  # Compiles only what these tests need: the unit suite, the store against a Redis, and one pass over
  # HTTP. Without -O, since gcc then instruments what the source says, in two thirds of the time.
  sanitizers = pkgs.stdenv.mkDerivation (inputs // {
    name = "codeq-check-sanitizers";
    inherit src;
    nativeCheckInputs = [ pkgs.redis ];
    hardeningDisable = hardeningDisable ++ [ "fortify" ]; # hides overflows from the address sanitizer
    mesonBuildType = "plain";
    mesonFlags = lib.splitString " " flags ++ [ "-Doptimization=0" "-Db_sanitize=address,undefined" "-Db_lundef=false" ];
    buildPhase = ":";
    doCheck = true;
    checkPhase = ''
      ${withoutStatistics}
      printf '%s\n' 'base redis_server' 'store store' 'store conn' 'service api_fields' >> names
      export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:strict_string_checks=1 UBSAN_OPTIONS=halt_on_error=1
      xargs -d '\n' meson test --print-errorlogs --suite unit --suite redis < names
    '';
    installPhase = ''
      cat meson-logs/testlog*.txt > $out
    '';
  });

  # Measures in the sandbox, with nothing on PATH: what the wrapper does not bring is missing.
  bench = pkgs.runCommand "codeq-check-bench" { meta = { }; } ''
    mkdir empty
    program=${lib.getExe ours.codeq-bench}
    export HOME=$PWD TMPDIR=$PWD
    PATH=$PWD/empty $program run scheduler-create-claim-complete --quick --out $out
    PATH=$PWD/empty $program verify --results $out
  '';

  # What `nix profile install` brings, and that every app starts its program.
  package = pkgs.runCommand "codeq-check-package" { meta = { }; } ''
    for program in codeqd codeq-bench codeq-trace; do
      ${default}/bin/$program --help | grep -q "^usage: *$program"
      grep -q '^.SH SYNOPSIS' ${default}/share/man/man[18]/$program.[18]
      grep -q . ${default}/share/bash-completion/completions/$program
      grep -q . ${default}/share/zsh/site-functions/_$program
      grep -q . ${default}/share/fish/vendor_completions.d/$program.fish
      [ $program = codeq-bench ] || grep -q "^ExecStart=.*/bin/$program" ${default}/lib/systemd/system/$program.service
    done
    grep -q '^Libs: .*-lcodeq' ${default}/lib/pkgconfig/codeq.pc
    [ -s ${default}/lib/libcodeq.a ]
    for app in ${lib.concatStringsSep " " (lib.mapAttrsToList (_: lib.getExe) runners)}; do
      $app --help | grep '^usage: ' >> $out
    done
    [ "$(wc -l < $out)" -ge 5 ]
  '';

  format = pkgs.runCommand "codeq-check-format" { meta = { }; nativeBuildInputs = [ pkgs.clang-tools ]; } ''
    cd ${formatted}
    find src bench ebpf -name '*.[ch]' ! -name 'vmlinux*' -print0 | xargs -0 clang-format --dry-run -Werror --style=file
    touch $out
  '';
}
