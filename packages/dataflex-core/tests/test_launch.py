"""How the ranks are started: LlamaFactory's environment variables, our own entry point, an argument list."""

from __future__ import annotations

import sys

import pytest

from dataflex.bridge.launch import torchrun_command, wants_torchrun


def no_device() -> int:
    return 0


def four_devices() -> int:
    return 4


def options(command: list[str]) -> dict[str, str]:
    flags = command[3 : command.index("dataflex") - 1]
    return dict(zip(flags[::2], flags[1::2], strict=True))


@pytest.mark.parametrize(
    ("environ", "devices", "wanted"),
    [
        ({}, no_device, False),
        ({}, four_devices, True),
        ({"FORCE_TORCHRUN": "1"}, no_device, True),
        ({"FORCE_TORCHRUN": "true"}, no_device, True),
        ({"FORCE_TORCHRUN": "0"}, no_device, False),
        ({"FORCE_TORCHRUN": "1", "LOCAL_RANK": "0"}, four_devices, False),
        ({"USE_RAY": "1"}, four_devices, False),
        ({"USE_MCA": "1"}, no_device, True),
    ],
)
def test_ranks_are_started_when_llamafactory_would_start_them(environ, devices, wanted):
    assert wants_torchrun(environ, devices) is wanted


def test_our_own_entry_point_is_started_and_no_argument_is_split():
    command = torchrun_command(["train", "a b/run file.yaml", "x=1 2"], {"MASTER_PORT": "29511"}, four_devices)
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert command[-5:] == ["-m", "dataflex", "train", "a b/run file.yaml", "x=1 2"]
    assert options(command) == {
        "--nproc-per-node": "4",
        "--nnodes": "1",
        "--node-rank": "0",
        "--master-addr": "127.0.0.1",
        "--master-port": "29511",
    }


def test_several_nodes_are_taken_from_the_environment():
    environ = {
        "NNODES": "2",
        "NODE_RANK": "1",
        "NPROC_PER_NODE": "8",
        "MASTER_ADDR": "host",
        "MASTER_PORT": "1234",
    }
    assert options(torchrun_command([], environ, no_device)) == {
        "--nproc-per-node": "8",
        "--nnodes": "2",
        "--node-rank": "1",
        "--master-addr": "host",
        "--master-port": "1234",
    }


def test_an_elastic_run_uses_the_rendezvous():
    environ = {"RDZV_ID": "job", "MIN_NNODES": "1", "MAX_NNODES": "3", "MAX_RESTARTS": "2", "MASTER_PORT": "1"}
    assert options(torchrun_command([], environ, no_device)) == {
        "--nproc-per-node": "1",
        "--nnodes": "1:3",
        "--rdzv-id": "job",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "127.0.0.1:1",
        "--max-restarts": "2",
    }


def test_a_free_port_is_found_when_none_is_given():
    ports = {options(torchrun_command([], {}, no_device))["--master-port"] for _ in range(3)}
    assert all(1024 < int(port) < 65536 for port in ports)
