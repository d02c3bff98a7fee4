# Evaluates the module as a NixOS system would and lets systemd judge the units that come out.
{ self, nixpkgs, pkgs }:
let
  system = pkgs.stdenv.hostPlatform.system;
  inherit (nixpkgs.lib.nixosSystem {
    inherit system;
    modules = [
      { nixpkgs.pkgs = pkgs; }
      self.nixosModules.default
      {
        services.codeqd.enable = true;
        services.codeqd.secretFiles.worker_auth_config = "/run/keys/workers.json";
        services.codeqd.settings.worker_auth_provider = "static";
        services.codeq-trace.enable = true;
        system.stateVersion = "26.05";
      }
    ];
  }) config;
in
pkgs.runCommand "codeq-check-module"
{
  meta = { };
  nativeBuildInputs = [ pkgs.systemd ];
  codeqd = config.systemd.units."codeqd.service".text;
  trace = config.systemd.units."codeq-trace.service".text;
  ports = builtins.toJSON config.networking.firewall.allowedTCPPorts;
  passAsFile = [ "codeqd" "trace" ];
} ''
  mkdir $out
  cp $codeqdPath $out/codeqd.service
  cp $tracePath $out/codeq-trace.service
  for unit in codeqd codeq-trace; do
    systemd-analyze security --offline=true --threshold=20 --no-pager $out/$unit.service > $out/$unit.security ||
      { cat $out/$unit.security; echo "$unit.service: exposure above 2.0"; exit 1; }
    tail -n 1 $out/$unit.security
  done
  grep -q '^LoadCredential=worker_auth_config:/run/keys/workers.json$' $out/codeqd.service
  grep -qx 'CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_SYS_PTRACE' $out/codeq-trace.service
  # What the units start is what the programs understand: keys of the configuration, options.
  mkdir credentials
  echo '{"token":"t","subject":"w","scopes":["codeq:claim"],"eventTypes":["*"]}' > credentials/worker_auth_config
  CREDENTIALS_DIRECTORY=$PWD/credentials $(sed -n 's/^ExecStart=//p' $out/codeqd.service) --print-config > $out/codeqd.config
  grep '"redis": *"unix:/run/redis-codeqd/redis.sock"' $out/codeqd.config
  $(sed -n 's/^ExecStart=//p' $out/codeq-trace.service) --help > $out/codeq-trace.help
  case "$ports" in *8080* | *9464*) echo "the firewall is open by default: $ports"; exit 1 ;; esac
''
