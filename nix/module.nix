# services.codeqd and services.codeq-trace. The hardening comes from the units that `meson install`
# writes, so that Debian and NixOS run the same.
self:
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  ours = self.packages.${pkgs.stdenv.hostPlatform.system};

  # The [Service] section of a unit file: name -> value, or list of values where it stands twice.
  serviceSection = file:
    let
      lines = lib.splitString "\n" (builtins.readFile file);
      step = state: line:
        let
          head = builtins.match "\\[(.*)]" line;
          pair = builtins.match "([A-Za-z]+)=(.*)" line;
        in
        if head != null then state // { inside = builtins.head head == "Service"; }
        else if pair == null || !state.inside then state
        else
          let key = builtins.head pair; value = builtins.elemAt pair 1; in
          state // { found = state.found // { ${key} = (state.found.${key} or [ ]) ++ [ value ]; }; };
      found = (builtins.foldl' step { inside = false; found = { }; } lines).found;
    in
    builtins.mapAttrs (_: values: if builtins.length values == 1 then builtins.head values else values)
      (removeAttrs found [ "ExecStart" "Environment" "EnvironmentFile" ]);

  cfg = config.services.codeqd;
  trace = config.services.codeq-trace;

  redisUrl =
    if cfg.redis.url != null then cfg.redis.url
    else if cfg.redis.createLocally then "unix:/run/redis-codeqd/redis.sock"
    else null;

  settings = lib.filterAttrs (_: value: value != null) (cfg.settings // {
    listen = "${cfg.listenAddress}:${toString cfg.port}";
    redis = redisUrl;
  });
  configFile = pkgs.writeText "codeqd.json" (builtins.toJSON settings);

  # Each secret reaches codeqd's environment from a credential, never the store or the unit.
  start = pkgs.writeShellApplication {
    name = "codeqd-start";
    text = ''
      ${lib.concatMapStringsSep "\n" (name: ''
        CODEQD_${lib.toUpper name}=$(< "$CREDENTIALS_DIRECTORY/${name}")
        export CODEQD_${lib.toUpper name}
      '') (builtins.attrNames cfg.secretFiles)}
      exec ${lib.getExe cfg.package} --config ${configFile} "$@"
    '';
  };
in
{
  options.services.codeqd = {
    enable = mkEnableOption "codeqd, a lease-based task scheduler on Redis";
    package = mkOption {
      type = types.package;
      default = ours.codeqd;
      defaultText = lib.literalExpression "codeq-lab.packages.\${system}.codeqd";
      description = "The scheduler to run.";
    };
    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "[::]";
      description = "Address to serve HTTP on.";
    };
    port = mkOption {
      type = types.port;
      default = 8080;
      description = "TCP port to serve HTTP on.";
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open the port in the firewall. Closed by default.";
    };
    redis = {
      createLocally = mkOption {
        type = types.bool;
        default = true;
        description = "Run a Redis of its own (services.redis.servers.codeqd) and use its socket, unless a url is given.";
      };
      url = mkOption {
        type = types.nullOr (types.strMatching "(unix:/.+|rediss?://.+)");
        default = null;
        example = "redis://10.0.0.5:6379/0";
        description = "An existing Redis: unix:/path or redis://[user@]host[:port][,host[:port]...][/db][?cluster=yes|sentinel=NAME]; rediss:// speaks TLS. Several hosts are a Redis Cluster, or a master and its replicas. The password belongs into secretFiles.redis_password.";
      };
      group = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "redis-tasks";
        description = "Group that may open the socket of redis.url.";
      };
    };
    settings = mkOption {
      type = types.attrsOf (types.oneOf [ types.bool types.int types.str ]);
      default = { };
      example = { threads = 4; lease_default = "60s"; log_format = "json"; };
      description = "More settings, by the names of codeqd's configuration file (`codeqd --help`). Durations and sizes carry a unit.";
    };
    secretFiles = mkOption {
      type = types.attrsOf types.path;
      default = { };
      example = lib.literalExpression "{ redis_password = \"/run/keys/redis\"; worker_auth_config = \"/run/keys/workers.json\"; }";
      description = "Settings whose value is read from a file at start: passwords, token providers, signing secrets. The files are read by systemd as root and handed over as credentials.";
    };
  };

  options.services.codeq-trace = {
    enable = mkEnableOption "codeq-trace, live tracing of Redis clients and servers, as a Prometheus exporter";
    package = mkOption {
      type = types.package;
      default = ours.codeq-trace;
      defaultText = lib.literalExpression "codeq-lab.packages.\${system}.codeq-trace";
      description = "The tracer to run.";
    };
    port = mkOption {
      type = types.port;
      default = 9464;
      description = "Port of the exporter, on 127.0.0.1: it has no login, so another host reaches it through a proxy that has one.";
    };
    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--comm" "redis-server" ];
      description = "More options of `codeq-trace serve`.";
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      services.redis.servers.codeqd = lib.mkIf (cfg.redis.createLocally && cfg.redis.url == null) {
        enable = true;
        appendOnly = lib.mkDefault true; # a task that was accepted survives a restart
      };
      networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];
      systemd.services.codeqd = {
        description = "codeqd, a lease-based task scheduler on Redis";
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ]
          ++ lib.optional (cfg.redis.createLocally && cfg.redis.url == null) "redis-codeqd.service";
        requires = lib.optional (cfg.redis.createLocally && cfg.redis.url == null) "redis-codeqd.service";
        environment.CODEQD_DATA = "/var/lib/codeqd";
        serviceConfig = serviceSection ../src/share/codeqd.service.in // {
          ExecStart = lib.getExe start;
          LoadCredential = lib.mapAttrsToList (name: file: "${name}:${toString file}") cfg.secretFiles;
          SupplementaryGroups =
            lib.optional (cfg.redis.createLocally && cfg.redis.url == null) "redis-codeqd"
            ++ lib.optional (cfg.redis.group != null) cfg.redis.group;
        };
      };
    })
    (lib.mkIf trace.enable {
      systemd.services.codeq-trace = {
        description = "codeq-trace, eBPF tracer of Redis traffic, leases and CPU time";
        wantedBy = [ "multi-user.target" ];
        after = [ "network.target" ];
        serviceConfig = serviceSection ../ebpf/share/codeq-trace.service.in // {
          ExecStart = lib.concatStringsSep " " ([
            (lib.getExe trace.package) "serve" "--listen" "127.0.0.1:${toString trace.port}"
          ] ++ map lib.escapeShellArg trace.extraArgs);
        };
      };
    })
  ];
}
