# Everything this project builds, from one package set.
{ pkgs, rev ? "dirty", nixpkgsRev ? "unknown" }:
let
  inherit (pkgs) lib callPackage;
  version = builtins.head (builtins.match ".*version: '([0-9.]+)'.*" (builtins.substring 0 200 (builtins.readFile ../meson.build)));

  # A program's sources and no more: an edit of the README or of a result leaves its store path
  # as it was, so equal store paths mean the same program.
  source = parts: lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions ([ ../meson.build ../meson_options.txt ../LICENSE ../src/meson.build ../src/base ../src/share ] ++ parts);
  };
  # What measures and watches is built once, whatever the scheduler is built with.
  observers = {
    codeq-bench-unwrapped = callPackage ./codeq-bench.nix { inherit version; src = source [ ../bench ../scenarios ]; };
    codeq-trace = callPackage ./codeq-trace.nix { inherit version hardeningDisable; src = source [ ../ebpf ../src/store/lua ../src/store/lua_embed.py ]; };
  };

  programs = set: rec {
    inherit (observers) codeq-bench-unwrapped codeq-trace;
    codeqd-unwrapped = set.callPackage ./codeqd.nix { inherit version; src = source [ ../src ]; };

    codeqd = wrap set {
      name = "codeqd";
      unwrapped = codeqd-unwrapped;
      tools = [ set.redis ];
    };

    codeq-bench = wrap set {
      name = "codeq-bench";
      unwrapped = codeq-bench-unwrapped;
      # What a run needs, and what compare needs to build a commit without Nix.
      tools = [
        set.redis set.valgrind set.git set.bashInteractive set.coreutils set.gnutar set.gzip set.diffutils
        set.meson set.ninja set.pkg-config set.stdenv.cc
      ];
      companions = [
        "${codeqd-unwrapped}/bin/codeq-drive" "${codeqd-unwrapped}/bin/codeqd" "${codeq-trace}/bin/codeq-trace"
        "${codeq-bench-unwrapped}/lib/libcodeq-alloccount.so"
      ];
      environment = {
        CODEQ_LAB_STORE_PATH = "${codeqd-unwrapped}";
        CODEQ_LAB_DERIVATION = builtins.unsafeDiscardStringContext codeqd-unwrapped.drvPath;
        CODEQ_LAB_NIXPKGS_REV = nixpkgsRev;
        CODEQ_LAB_REV = rev;
      };
    };
  };

  # The wrapped clang adds these to every compilation; its BPF target rejects them.
  hardeningDisable = [ "zerocallusedregs" "shadowstack" "pacret" ];

  # A program whose PATH is what the flake gives it: nothing of the caller's is found, but nix itself.
  # It finds its companions beside itself, in libexec/.
  wrap = set: { name, unwrapped, tools, companions ? [ ], environment ? { } }:
    let
      script = set.writeShellApplication {
        inherit name;
        text = ''
          nix=$(type -P nix || true)
          ${lib.concatStringsSep "\n" (lib.mapAttrsToList (key: value: "export ${key}=${lib.escapeShellArg value}") environment)}
          export PATH=${lib.makeBinPath tools}
          if [ -n "$nix" ]; then
            PATH=$PATH:''${nix%/*}
            ${lib.optionalString (environment ? CODEQ_LAB_STORE_PATH) ''
              CODEQ_LAB_NAR_HASH=$(nix-store --query --hash "$CODEQ_LAB_STORE_PATH" 2>/dev/null || true)
              export CODEQ_LAB_NAR_HASH
              # compare builds commits through Nix, by default with this flake's own nixpkgs; set
              # CODEQ_LAB_NIX_FLAGS= (empty) for each commit's own lock.
              export CODEQ_LAB_NIX=$nix
              export CODEQ_LAB_NIX_FLAGS=''${CODEQ_LAB_NIX_FLAGS---override-input nixpkgs github:NixOS/nixpkgs/${nixpkgsRev}}
            ''}
          fi
          exec PROGRAM_OF_THE_WRAPPER "$@"
        '';
      };
    in
    set.runCommand "${name}-${version}" { meta.mainProgram = name; passthru = { inherit unwrapped; }; } ''
      mkdir -p $out/bin $out/libexec
      cp -rs --no-preserve=mode ${unwrapped}/. $out/
      cp --remove-destination ${unwrapped}/bin/${name} $out/libexec/${name}
      for companion in ${lib.concatStringsSep " " companions}; do ln -s $companion $out/libexec/; done
      rm $out/bin/${name}
      sed "s|PROGRAM_OF_THE_WRAPPER|$out/libexec/${name}|" ${script}/bin/${name} > $out/bin/${name}
      chmod +x $out/bin/${name}
    '';

  ours = programs pkgs;

  scenarioNames = map (file: lib.removeSuffix ".json" file)
    (builtins.filter (lib.hasSuffix ".json") (lib.optionals (builtins.pathExists ../scenarios) (builtins.attrNames (builtins.readDir ../scenarios))));

  runner = name: text: pkgs.writeShellApplication { inherit name text; };
  runners = {
    bench = runner "bench" ''exec ${lib.getExe ours.codeq-bench} run "$@"'';
    compare = runner "compare" ''exec ${lib.getExe ours.codeq-bench} compare "$@"'';
    selftest = runner "selftest" ''exec ${lib.getExe ours.codeq-bench} selftest "$@"'';
    serve = runner "serve" ''exec ${lib.getExe ours.codeqd} "$@"'';
    trace = runner "trace" ''exec ${lib.getExe ours.codeq-trace} "$@"'';
  };

  # One scenario with the programs, the Redis and the Valgrind of this flake: the same closure on any host.
  scenarios = lib.listToAttrs (map
    (name: {
      name = "scenario-${name}";
      value = runner "scenario-${name}" ''exec ${lib.getExe ours.codeq-bench} run ${../scenarios + "/${name}.json"} "$@"'';
    })
    scenarioNames);

  default = pkgs.runCommand "codeq-lab-${version}" { meta.mainProgram = "codeq-bench"; } ''
    mkdir -p $out
    for program in ${ours.codeqd} ${ours.codeq-bench} ${ours.codeq-trace}; do
      cp -rsn --no-preserve=mode $program/. $out/
      chmod -R u+w $out
    done
  '';
in
{
  packages = { inherit (ours) codeqd codeq-bench codeq-trace; inherit default; } // scenarios;
  inherit runners;

  # matrix.<redis>.<compiler>: the scheduler with one input exchanged, measured by one and the same
  # codeq-bench: a difference between two cells is not the observer's.
  matrix = lib.mapAttrs
    (_: redis: lib.mapAttrs
      (_: stdenv:
        let
          set = pkgs // {
            inherit redis stdenv;
            callPackage = file: arguments: callPackage file (arguments // { inherit stdenv; });
          };
        in
        { inherit (programs set) codeqd codeq-bench; })
      { gcc = pkgs.stdenv; clang = pkgs.clangStdenv; })
    { inherit (pkgs) redis valkey; };

  # What `just` needs, verb by verb: build and lint, test, beside, and a debugger for what they find.
  shell = pkgs.mkShell {
    inputsFrom = [ ours.codeqd-unwrapped ours.codeq-bench-unwrapped ours.codeq-trace ];
    packages = [
      pkgs.just pkgs.git pkgs.redis pkgs.valgrind pkgs.curl pkgs.procps pkgs.jq pkgs.gdb
      pkgs.clang-tools pkgs.shellcheck pkgs.systemd
      pkgs.cmocka pkgs.nodejs pkgs.chromium pkgs.go (pkgs.python3.withPackages (python: [ python.prometheus-client ]))
      pkgs.wrk pkgs.nghttp2
    ];
    inherit hardeningDisable; # the shell's clang compiles BPF too
  };

  checks = import ./checks.nix {
    inherit pkgs lib ours default runners version hardeningDisable;
    src = source [ ../src ../bench ../ebpf ../scenarios ];
    formatted = source [ ../src ../bench ../ebpf ../.clang-format ];
  };
}
