#!/usr/bin/python3
"""The client library's SandboxClient and SharedEnvSandbox, as programs written for those services use them."""
import asyncio
import io
import os
import sys
import tempfile
import uuid
import zipfile

from client import HERE, KEY, TAGGED, URL, done, eq, ok, request

sys.path.insert(0, os.environ.get("CGIBOX_TEST_PYTHON") or os.path.join(HERE, "../../scripts/python"))
import cgibox  # noqa: E402
from cgibox.manager import CreateSandboxRequest, PortConfig, ResourceConfig, SandboxClient, VolumeConfig  # noqa: E402
from cgibox.runtime import SharedEnvSandbox  # noqa: E402


async def raises(kind, it, what, text=""):
    try:
        ok(False, what, "no exception", await it)
    except Exception as e:
        ok(type(e) is kind and text in str(e), what, type(e), e)


def refuses(make, what):
    try:
        make()
        ok(False, what)
    except cgibox.SandboxValidationError:
        ok(True, what)


async def manager():
    refuses(lambda: ResourceConfig(cpu=9), "a model checks its bounds")
    refuses(lambda: PortConfig(internal=0), "and a port")
    async with SandboxClient(URL, key=KEY) as c:
        made = await c.create_sandbox(CreateSandboxRequest(
            image=TAGGED, command="echo begun; exec sleep 300", environment={"A": "1"},
            ports=[PortConfig(internal=8080, protocol="http")], resources=ResourceConfig(cpu=1.0, memory="256m")))
        i = made["container_id"]
        eq((made["resources"]["memory"], list((await c.get_urls(i)))), ("256m", ["8080"]), "a sandbox is made")
        eq((await c.get_sandbox_status(i))["status"]["running"], True, "it runs")
        ok(i in [s["container_id"] for s in await c.list_sandboxes("running")], "and is listed")
        eq((await c.execute_command(i, "echo $A; echo err >&2"))["output"], "1\nerr\n", "a command")
        eq([line async for line in c.stream_command(i, "echo one; sleep 0.2; echo two")], ["one", "two"], "its lines as they come")
        async for line in c.stream_command(i, "echo first; sleep 30"):
            break
        eq(line, "first", "which one need not read to the end")
        eq(await c.get_environment(i), {"A": "1"}, "variables")
        eq((await c.update_environment(i, {"B": "2"}))["environment"], {"A": "1", "B": "2"}, "merged")
        eq((await c.get_entrypoint(i))["command"], "echo begun; exec sleep 300", "the command")
        eq((await c.update_entrypoint(i, command=["sh", "-c", "echo other; sleep 300"]))["command"][0], "sh", "another one")
        eq((await c.update_timeout(i, 60))["timeout"], 60, "a time")
        for _ in range(1200):
            lines = [x["message"] for x in await c.get_sandbox_logs(i)]
            if lines:
                break
            await asyncio.sleep(0.05)
        ok(lines, "logs", lines)
        ok("mem_limit" in await c.get_sandbox_metrics(i) and await c.get_sandbox_alerts(i) == [], "metrics and alerts")
        await c.execute_command(i, "mkdir -p /repo/d; echo z >/repo/d/f")
        with zipfile.ZipFile(io.BytesIO(await c.export_container(i, "/repo/d"))) as z:
            ok(any(n.endswith("f") for n in z.namelist()), "an export", z.namelist())
        with tempfile.TemporaryDirectory() as d:
            eq(await c.export_container(i, "/repo/d", d + "/x.zip"), d + "/x.zip", "to a file")
            ok(zipfile.is_zipfile(d + "/x.zip"), "which is a zip")
        eq((await c.stop_sandbox(i, timeout=1))["status"], "stopped", "stopped")
        await raises(cgibox.SandboxOperationError, c.execute_command(i, "true"), "no command in a stopped one", "409")
        eq(((await c.start_sandbox(i))["status"], (await c.restart_sandbox(i))["status"]), ("started", "restarted"), "started, restarted")
        eq((await c.delete_sandbox(i))["status"], "deleted", "deleted")
        await raises(cgibox.SandboxNotFoundError, c.get_sandbox_status(i), "and gone", "404")
        await raises(cgibox.SandboxValidationError, c.create_sandbox(CreateSandboxRequest(image="no tag")), "a bad image", "422")
        await raises(cgibox.SandboxVolumeError, c.list_directory(i, "none", "/"), "a volume of none")
        await volumes(c)
    await raises(cgibox.SandboxConnectionError, SandboxClient("http://127.0.0.1:1").list_sandboxes(), "nobody there")


async def volumes(c):
    if request("GET", "/sandboxes/x/volumes/y/ls?path=/").detail == "Not Found":
        return ok(True, "no volumes here yet")
    name = "v" + uuid.uuid4().hex[:8]
    made = await c.create_sandbox(CreateSandboxRequest(image=TAGGED, command="sleep 300", volumes={name: VolumeConfig(size="10m")}))
    i = made["container_id"]
    await c.make_directory(i, name, "/d")
    await c.write_file(i, name, "/d/f", "text\n")
    eq(await c.read_file(i, name, "/d/f"), "text\n", "a file of a volume")
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"up")
        f.flush()
        await c.upload_file(i, name, "/d/g", f.name)
    eq(sorted(e["name"] for e in await c.list_directory(i, name, "/d")), ["f", "g"], "its directory")
    await raises(cgibox.SandboxVolumeError, c.read_file(i, name, "/none"), "no such file")
    shared = "n" + uuid.uuid4().hex[:8]
    eq((await c.create_network_volume(shared, size="10m"))["volume_name"], shared, "a shared volume")
    await c.stop_sandbox(i, timeout=0)
    await c.mount_volume(i, shared, "/mnt/shared")
    await c.start_sandbox(i)
    eq((await c.execute_command(i, "touch /mnt/shared/x && echo ok"))["output"], "ok\n", "is mounted")
    await c.stop_sandbox(i, timeout=0)
    await c.unmount_volume(i, shared)
    await c.delete_sandbox(i)


async def runtime():
    if request("GET", "/workspace/se/healthy", key=None).status == 404:
        return ok(True, "no /workspace/se here yet")
    async with SharedEnvSandbox("py-" + uuid.uuid4().hex[:12], servers=[URL], key=KEY) as s:
        eq((await s.create_session("20M"))["session_id"], s.session_id, "runtime: a session")
        r = await s.execute("printf %s", "a b", "c'd")
        eq((r["stdout"], r["returncode"]), ("a bc'd", 0), "runtime: a command with arguments")
        r = await s.execute_code("import sys\nx = {'a': 1}\nprint('hi', sys.argv[1:])", args=["q"], output_params=["x"])
        eq((r["stdout"], r["output_variables"]), ("hi ['q']\n", {"x": {"a": 1}}), "runtime: code and its variables")
        eq((await s.execute_code("exit 3", script_type="shell"))["returncode"], 3, "runtime: shell")
        eq((await s.create_file("text", "d/f.txt"))["size"], 4, "runtime: a file")
        eq((await s.read_file("d/f.txt", 1, 2))["content"], "ex", "runtime: a part of it")
        with tempfile.TemporaryDirectory() as d:
            with open(d + "/up", "wb") as f:
                f.write(bytes(range(256)))
            await s.upload_file(d + "/up")
            eq((await s.download_file("up", d + "/down"), open(d + "/down", "rb").read()), (bytes(range(256)),) * 2, "runtime: up and down")
        ok({"up", "f.txt"} <= {os.path.basename(f["filename"]) for f in await s.list_files(recursive=True)}, "runtime: files")
        eq((await s.get_status())["exists"], True, "runtime: status")
        eq((await s.execute_handler("def handler(event):\n    return event['n'] * 2", {"n": 21}))["result"], 42, "runtime: a handler")
        await raises(cgibox.SandboxNotFoundError, s.download_file("none"), "runtime: no such file", "404")
        try:
            await s.download_from_efast()
            ok(False, "runtime: no vendor's store")
        except cgibox.SandboxError as e:
            ok(e.status and 400 <= e.status < 600, "runtime: no vendor's store", e)
        await s.delete_session()
        eq((await s.get_status())["exists"], False, "runtime: deleted")
    many = ["http://%d.example" % n for n in range(4)]
    ok(len({SharedEnvSandbox("s%d" % n, servers=many).server for n in range(50)}) == 4 and
       SharedEnvSandbox("a", servers=many).server == SharedEnvSandbox("a", servers=many).server, "runtime: a session has one server of several")

asyncio.run(manager())
asyncio.run(runtime())
done()
