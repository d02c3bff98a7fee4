# A virtual machine that creates, claims and completes a task, traces it, and compares two commits.
# Needs KVM: nix build .#checks.x86_64-linux.vm
{ self }:
{
  name = "codeq-lab";
  nodes.machine = { pkgs, ... }: {
    imports = [ self.nixosModules.default ];
    services.codeqd = {
      enable = true;
      settings.env = "dev";
    };
    services.codeq-trace.enable = true;
    environment.systemPackages = [ pkgs.curl pkgs.jq pkgs.git self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
    virtualisation.memorySize = 2048;
    virtualisation.cores = 2;
  };
  testScript = ''
    import json

    machine.wait_for_unit("codeqd.service")
    machine.wait_for_open_port(8080)
    machine.wait_for_unit("codeq-trace.service")
    machine.wait_for_open_port(9464)

    def call(method, path, body):
        text = machine.succeed(
            f"curl -sSf -X {method} -H 'Authorization: Bearer dev-token' -H 'Content-Type: application/json'"
            f" -d '{json.dumps(body)}' http://127.0.0.1:8080/v1/codeq{path}"
        )
        return json.loads(text)

    task = call("POST", "/tasks", {"command": "VM", "payload": {"n": 1}})
    claimed = call("POST", "/tasks/claim", {"commands": ["VM"], "leaseSeconds": 60})
    assert claimed["id"] == task["id"], (task, claimed)
    call("POST", f"/tasks/{task['id']}/result", {"status": "COMPLETED", "result": {"ok": True}})
    done = json.loads(machine.succeed(
        f"curl -sSf -H 'Authorization: Bearer dev-token' http://127.0.0.1:8080/v1/codeq/tasks/{task['id']}"
    ))
    assert done["status"] == "COMPLETED", done

    # The tracer saw what those calls asked of Redis: each is a script.
    metrics = machine.succeed("curl -sSf http://127.0.0.1:9464/metrics")
    calls = [line for line in metrics.splitlines() if line.startswith("codeq_trace_commands_count_total{")]
    assert sum(float(line.split()[-1]) for line in calls if "EVALSHA" in line or "FCALL" in line) >= 3, metrics

    # The two units hold what the module promises, on a running system too.
    machine.succeed("systemd-analyze security --threshold=20 codeqd.service codeq-trace.service")

    # Two result sets of one program: as measured, and the same.
    machine.succeed("codeq-bench run scheduler-create --quick --out /tmp/a")
    machine.succeed("codeq-bench run scheduler-create --quick --out /tmp/b")
    one = machine.succeed("find /tmp/a -name manifest.json -printf %h").strip()
    two = machine.succeed("find /tmp/b -name manifest.json -printf %h").strip()
    machine.succeed(f"codeq-bench verify {one} {two}")
    verdict = machine.succeed(f"codeq-bench compare {one} {two}")
    assert verdict.startswith("same"), verdict
  '';
}
