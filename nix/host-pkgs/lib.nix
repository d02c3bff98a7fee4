# The few functions of nixpkgs' lib that this flake uses.
let
  inherit (builtins) concatStringsSep listToAttrs filter isList elem stringLength substring any attrNames;
in
rec {
  inherit (builtins) mapAttrs concatStringsSep listToAttrs;
  toUpper = builtins.replaceStrings (splitString "," "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z") (splitString "," "A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q,R,S,T,U,V,W,X,Y,Z");
  genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs = keep: set: listToAttrs (filter (e: keep e.name e.value) (mapAttrsToList (name: value: { inherit name value; }) set));
  optional = cond: x: if cond then [ x ] else [ ];
  optionals = cond: xs: if cond then xs else [ ];
  optionalString = cond: s: if cond then s else "";
  optionalAttrs = cond: set: if cond then set else { };
  concatMapStringsSep = sep: f: xs: concatStringsSep sep (map f xs);
  escapeShellArg = s: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString s)}'";
  hasPrefix = p: s: substring 0 (stringLength p) s == p;
  hasSuffix = e: s: stringLength s >= stringLength e && substring (stringLength s - stringLength e) (stringLength e) s == e;
  removeSuffix = e: s: if hasSuffix e s then substring 0 (stringLength s - stringLength e) s else s;
  splitString = sep: s: filter builtins.isString (builtins.split sep s);
  getExe = p: "${p}/bin/${p.meta.mainProgram or p.pname or p.name}";
  makeBinPath = ps: concatStringsSep ":" (map (p: "${p}/bin") ps);
  unique = builtins.foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  flatten = x: if isList x then builtins.concatMap flatten x else [ x ];
  licenses = genAttrs [ "mit" "gpl2Only" ] (spdxId: { inherit spdxId; });
  platforms.linux = [ "x86_64-linux" "aarch64-linux" ];

  # fileset: a list of paths; a kept file lies under one, a kept folder also above one.
  fileset = {
    unions = flatten;
    toSource = { root, fileset }:
      let keep = map toString fileset; in
      builtins.path {
        path = root;
        name = "source";
        filter = path: _: any (k: path == k || hasPrefix "${k}/" path || hasPrefix "${path}/" k) keep;
      };
  };

  # The module system: options are read for their defaults, mkIf is followed, nothing is type-checked.
  literalExpression = text: { inherit text; };
  types = genAttrs [ "package" "str" "bool" "int" "path" "port" "lines" "anything" ] (x: x)
    // genAttrs [ "nullOr" "attrsOf" "listOf" "enum" "submodule" "strMatching" ] (x: _: x)
    // { oneOf = _: "oneOf"; ints = { positive = "int"; unsigned = "int"; between = _: _: "int"; }; };
  mkOption = o: o // { _option = true; };
  mkEnableOption = d: mkOption { default = false; description = d; };
  mkIf = cond: value: { _if = cond; inherit value; };
  mkMerge = values: { _merge = values; };
  mkDefault = x: x;
  merge = builtins.foldl' mergeTwo { };
  mergeTwo = a: b: a // mapAttrs
    (n: v:
      if a ? ${n} && builtins.isAttrs a.${n} && builtins.isAttrs v && !(v ? type) then mergeTwo a.${n} v
      else if a ? ${n} && isList a.${n} && isList v then a.${n} ++ v else v)
    b;
  resolve = v:
    if !builtins.isAttrs v || v ? type then v
    else if v ? _if then (if v._if then resolve v.value else { })
    else if v ? _merge then merge (map resolve v._merge)
    else mapAttrs (_: resolve) v;
  defaults = o:
    if o ? _option then o.default or null else mapAttrs (_: defaults) o;
  # Two passes in place of a fixpoint: plain modules first, then the functions see their result.
  evalModules = pkgs: modules:
    let
      pass = config:
        let
          load = m:
            let body = if builtins.isFunction m then m { inherit config pkgs; inherit (pkgs) lib; } else m; in
            builtins.concatMap load (body.imports or [ ]) ++ [ (removeAttrs body [ "imports" ]) ];
          loaded = builtins.concatMap load modules;
        in
        merge (map (m: defaults (m.options or { })) loaded
          ++ map (m: resolve (m.config or (removeAttrs m [ "options" ]))) (filter (m: config != null || !(m ? config)) loaded));
    in
    pass (pass null);

  # Units as NixOS writes them, by and large: systemd.units.NAME.text.
  nixosSystem = { system, modules }:
    let
      plain = builtins.head modules; # holds nixpkgs.pkgs
      config = evalModules plain.nixpkgs.pkgs (builtins.tail modules);
      text = x: if x == true then "true" else if x == false then "false" else toString x;
      section = name: set: "[${name}]\n" + concatStringsSep "" (flatten (mapAttrsToList (k: v: map (x: "${k}=${text x}\n") (flatten [ v ])) set));
      unit = s: section "Unit" (optionalAttrs (s ? description) { Description = s.description; }
        // optionalAttrs (s ? after) { After = concatStringsSep " " s.after; }
        // optionalAttrs (s ? requires) { Requires = concatStringsSep " " s.requires; }
        // s.unitConfig or { })
        + section "Service" (optionalAttrs (s ? environment) { Environment = mapAttrsToList (k: v: "\"${k}=${text v}\"") s.environment; } // s.serviceConfig);
    in
    {
      config = config // {
        systemd = config.systemd // {
          units = listToAttrs (mapAttrsToList (name: s: { name = "${name}.service"; value.text = unit s; }) config.systemd.services);
        };
      };
    };
}
