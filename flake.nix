{
  description = "codeq-lab: what did this commit do to the scheduler's hot path?";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [ "x86_64-linux" "aarch64-linux" ];
      eachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      rev = self.rev or self.dirtyRev or "dirty";
      nixpkgsRev = nixpkgs.rev or "stand-in";
      codeq = pkgs: import ./nix { inherit pkgs rev nixpkgsRev; };
    in
    {
      packages = eachSystem (pkgs: (codeq pkgs).packages);

      # One axis a level: nix run .#matrix.valkey.clang.codeq-bench -- run --quick
      legacyPackages = eachSystem (pkgs: { inherit (codeq pkgs) matrix; });

      apps = eachSystem (pkgs:
        lib.mapAttrs
          (name: description: {
            type = "app";
            program = lib.getExe (codeq pkgs).runners.${name};
            meta = { inherit description; };
          })
          {
            bench = "measure, count and profile the scheduler; writes a result set";
            compare = "say what commit B changed against commit A";
            trace = "watch a live scheduler or Redis with eBPF (root)";
            serve = "run the scheduler's service";
            selftest = "A/A pairs and planted regressions: does the laboratory judge rightly?";
          });

      checks = eachSystem (pkgs: (codeq pkgs).checks // {
        module = import ./nix/module-check.nix { inherit self nixpkgs pkgs; };
        vm = pkgs.testers.runNixOSTest (import ./nix/vm-test.nix { inherit self; });
      });

      devShells = eachSystem (pkgs: { default = (codeq pkgs).shell; });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);

      overlays.default = _final: prev: { codeq-lab = (codeq prev).packages; };

      nixosModules.default = import ./nix/module.nix self;

      # What `./lab` asks for to learn whether nixpkgs is at hand.
      lib = { inherit nixpkgsRev; };
    };
}
