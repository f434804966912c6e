"""One power cut in a run, and what became of it."""

import json

from tests.support.chains import Server, lora_of


def cut_once(ground, disk, name, moment, whole):
    """Run on a disk whose power is cut after so many seconds, and run again; what is wrong with how it ended."""
    home = disk.place / "home"
    server = Server(home)
    settings = {"PREFECT_API_URL": server.url, "LTX_FLOWS_ALLOW_FILE_ROOT": str(ground.folder)}
    command = ["run", name, str(ground.requests[name])]
    kill = {"target": "tree", "after": moment}
    first = ground.runner.run(home, command, settings, kill)
    server.kill()
    disk.cut()
    server.start()
    try:
        again = ground.runner.run(home, command, settings)
        bills = ground.runner.run(home, ["bills", "--json"], settings)
    finally:
        server.kill()
    if again["code"] or bills["code"]:
        return [first["worked"], again["log"][-3000:], bills["log"]]
    wrong = []
    if lora_of(json.loads(again["out"])) != lora_of(whole.result):
        wrong.append("the LoRA differs from that of a run that was let alone")
    if len(json.loads(bills["out"])) != 1:
        wrong.append(f"{bills['out']}")
    return wrong
