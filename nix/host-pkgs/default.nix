# Each attribute that the flake takes from nixpkgs, made of what apt installed.
# A package here is a folder of wrappers of the host's programs (bin/) and links to its pkg-config
# files (lib/pkgconfig/); a build sees only the folders of the packages it names, so a dependency
# that is not declared is missing here as it would be with nixpkgs.
{ system, lib }:
let
  host = { pname, bin ? [ ], pc ? [ ], header ? [ ], py ? [ ], apt ? pname }:
    derivation {
      inherit system pname bin pc header py apt;
      name = "host-${pname}";
      builder = "/bin/bash";
      args = [ ./host.sh ];
    } // { inherit pname; meta.mainProgram = builtins.head (bin ++ [ pname ]); };

  base = host {
    pname = "base";
    apt = "build-essential";
    bin = [
      "bash" "sh" "env" "gcc" "cc" "ar" "ld" "as" "strip" "make" "sed" "grep" "awk" "find" "xargs" "tar" "gzip"
      "diff" "cmp" "cat" "cp" "mv" "rm" "ln" "ls" "mkdir" "rmdir" "mktemp" "chmod" "touch" "install" "sort" "uniq" "head"
      "tail" "cut" "tr" "wc" "date" "uname" "readlink" "dirname" "basename" "sleep" "seq" "tee" "true" "false" "expr"
      "test" "echo" "printf" "paste" "id" "nproc" "sha256sum" "stat" "timeout"
    ];
  };

  mkDerivation = attrs:
    let
      inputs = lib.unique (lib.flatten (
        map (n: attrs.${n} or [ ]) [ "nativeBuildInputs" "buildInputs" "propagatedBuildInputs" ]
        ++ (if attrs.doCheck or false then map (n: attrs.${n} or [ ]) [ "checkInputs" "nativeCheckInputs" ] else [ ])
      ));
      drv = derivation (removeAttrs attrs [ "meta" "passthru" "hardeningDisable" "pname" "version" "compiler" ] // {
        inherit system;
        name = attrs.name or "${attrs.pname}-${attrs.version}";
        builder = "/bin/bash";
        args = [ ./builder.sh ];
        stdenv = ./stdenv;
        hostPath = lib.makeBinPath (inputs ++ [ base ]);
        PKG_CONFIG_LIBDIR = builtins.concatStringsSep ":" (map (p: "${p}/lib/pkgconfig") inputs);
      });
    in
    drv // attrs.passthru or { } // {
      meta = attrs.meta or { };
      pname = attrs.pname or attrs.name;
      inherit inputs;
      overrideAttrs = f: mkDerivation (attrs // f attrs);
    };

  runCommand = name: env: script: mkDerivation ({
    inherit name;
    buildCommand = script;
    passAsFile = [ "buildCommand" ] ++ env.passAsFile or [ ];
  } // removeAttrs env [ "passAsFile" ]);

  writeShellApplication = { name, runtimeInputs ? [ ], text }:
    runCommand name
      {
        text = ''
          #!/bin/bash
          set -o errexit -o nounset -o pipefail
          export PATH="${lib.makeBinPath runtimeInputs}:$PATH"
          ${text}
        '';
        passAsFile = [ "text" ];
        meta.mainProgram = name;
        nativeBuildInputs = [ self.shellcheck ]; # nixpkgs refuses what shellcheck does not like, too
      } ''
      mkdir -p $out/bin
      cp $textPath $out/bin/$name
      chmod +x $out/bin/$name
      shellcheck $out/bin/$name
    '';

  self = {
    inherit system lib runCommand writeShellApplication;
    stdenv = { inherit mkDerivation; hostPlatform = { inherit system; }; cc = base; };
    clangStdenv = self.stdenv // { mkDerivation = a: mkDerivation (a // { CC = "clang"; nativeBuildInputs = a.nativeBuildInputs ++ [ self.clang ]; }); };
    callPackage = f: args:
      let fn = import f; in
      fn (builtins.intersectAttrs (builtins.functionArgs fn) self // args);
    mkShell = { inputsFrom ? [ ], packages ? [ ], ... }: mkDerivation {
      name = "shell";
      nativeBuildInputs = packages ++ lib.flatten (map (d: d.inputs) inputsFrom);
      buildCommand = "mkdir $out";
    };
    writeText = name: text: runCommand name { inherit text; passAsFile = [ "text" ]; } "cp $textPath $out";
    # No internet here: an empty folder stands for what would be fetched (the report's chart library).
    fetchFromGitHub = { repo, ... }: runCommand "not-fetched-${repo}" { } "mkdir $out";
    # No virtual machine here: the test's node is evaluated, its script is kept, nothing is run.
    testers.runNixOSTest = test:
      let config = (lib.nixosSystem { inherit system; modules = [ { nixpkgs.pkgs = self; } test.nodes.machine ]; }).config; in
      runCommand "vm-test-${test.name}-evaluated-not-run" {
        units = builtins.toJSON (builtins.attrNames config.systemd.services);
        script = test.testScript;
        passAsFile = [ "script" ];
        nativeBuildInputs = [ self.python3 ];
      } ''
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' $scriptPath
        { echo "$units"; cat $scriptPath; } > $out
      '';

    hiredis = host { pname = "hiredis"; pc = [ "hiredis" ]; apt = "libhiredis-dev"; };
    cjson = host { pname = "cjson"; pc = [ "libcjson" ]; apt = "libcjson-dev"; };
    cmocka = host { pname = "cmocka"; pc = [ "cmocka" ]; apt = "libcmocka-dev"; };
    libbpf = host { pname = "libbpf"; pc = [ "libbpf" ]; apt = "libbpf-dev"; };
    elfutils = host { pname = "elfutils"; pc = [ "libelf" ]; apt = "libelf-dev"; };
    zlib = host { pname = "zlib"; pc = [ "zlib" ]; apt = "zlib1g-dev"; };
    openssl = host { pname = "openssl"; pc = [ "libcrypto" "libssl" "openssl" ]; apt = "libssl-dev"; };
    curl = host { pname = "curl"; bin = [ "curl" ]; pc = [ "libcurl" ]; apt = "curl libcurl4-openssl-dev"; };
    libev = host { pname = "libev"; header = [ "ev.h" ]; apt = "libev-dev"; };
    # nixpkgs has the library; Debian 12 has its C source, in the package of the Node.js module.
    llhttp = runCommand "llhttp" { } ''
      from=/usr/share/llhttp headers=/usr/share/include/llhttp
      [ -e $from/llhttp.c ] || { echo "host-pkgs: no llhttp.c on this machine; install it with: apt-get install node-llhttp" >&2; exit 1; }
      mkdir -p $out/lib/pkgconfig
      for part in api http llhttp; do gcc -O2 -fPIC -c -I$headers $from/$part.c; done
      ar rcsD $out/lib/libllhttp.a *.o
      version=$(sed -n 's/^#define LLHTTP_VERSION_[A-Z]* //p' $headers/llhttp.h | paste -sd .)
      printf '%s\n' "Name: libllhttp" "Description: HTTP/1 parser" "Version: $version" \
        "Cflags: -I$headers" "Libs: -L$out/lib -lllhttp" > $out/lib/pkgconfig/libllhttp.pc
    '';
    redis = host { pname = "redis"; bin = [ "redis-server" "redis-cli" ]; apt = "redis-server"; };
    valkey = host { pname = "valkey"; bin = [ "valkey-server" "valkey-cli" ]; apt = "valkey (Debian 13)"; };
    valgrind = host { pname = "valgrind"; bin = [ "valgrind" "callgrind_annotate" "ms_print" ]; pc = [ "valgrind" ]; };
    clang = host { pname = "clang"; bin = [ "clang" "clang++" ]; };
    clang-tools = host { pname = "clang-tools"; bin = [ "clang-format" ]; apt = "clang-format"; };
    procps = host { pname = "procps"; bin = [ "ps" "pgrep" "pkill" ]; };
    nghttp2 = host { pname = "nghttp2"; bin = [ "h2load" ]; apt = "nghttp2-client"; };
    go = host { pname = "go"; bin = [ "go" ]; apt = "golang-go"; };
    just = host { pname = "just"; bin = [ "just" ]; apt = "npm, and let ./lab install it"; };
    python3 = host { pname = "python3"; bin = [ "python3" ]; } // {
      withPackages = names: host {
        pname = "python3";
        bin = [ "python3" ];
        py = names { prometheus-client = "prometheus_client"; };
        apt = "python3-prometheus-client";
      };
    };
    bpftools = host { pname = "bpftools"; bin = [ "bpftool" ]; apt = "bpftool"; };
    bashInteractive = host { pname = "bash"; bin = [ "bash" ]; }; # for `nix develop`
    ninja = host { pname = "ninja"; bin = [ "ninja" ]; apt = "ninja-build"; };
    systemd = host { pname = "systemd"; bin = [ "systemd-analyze" "systemd-nspawn" ]; apt = "systemd systemd-container"; };
    nodejs = host { pname = "nodejs"; bin = [ "node" "npm" ]; apt = "nodejs npm"; };
    coreutils = base;
    diffutils = base;
    gnutar = base;
    gzip = base;
  } // lib.mapAttrs (pname: bin: host { inherit pname bin; }) {
    meson = [ "meson" ];
    pkg-config = [ "pkg-config" ];
    jq = [ "jq" ];
    git = [ "git" ];
    chromium = [ "chromium" ];
    gdb = [ "gdb" ];
    wrk = [ "wrk" ];
    shellcheck = [ "shellcheck" ];
    nixfmt-tree = [ "nixfmt-tree" ];
  };
in
self
