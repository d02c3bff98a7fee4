{
  description = "A stand-in for nixpkgs made of the Debian host's own tools: for tests of the flake, and nothing else";
  outputs = _: rec {
    lib = import ./lib.nix;
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: import ./. { inherit system lib; });
  };
}
