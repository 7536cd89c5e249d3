"""Test clients that ask for HTTP/2 with each request: curl with an option, and Java's by default."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet

CURL, JAVA = shutil.which("curl"), shutil.which("java")
SUBMIT = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Submit {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/jobs"))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString("{\\"payload\\": " + i + "}"))
                .build();
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode());
        }
    }
}
"""


@pytest.mark.skipif(CURL is None, reason="left out: there is no curl (apt install curl)")
def test_curl_submits_while_it_asks_for_http2(fleet: Fleet) -> None:
    assert CURL is not None
    scheduler = fleet.start_scheduler("s1")
    url = f"{scheduler.url}/jobs"
    common = [
        CURL,
        "--silent",
        "--show-error",
        "--http2",
        "-H",
        "content-type: application/json",
        "-w",
        "\n%{http_code}\n",
    ]
    chunked = ["-H", "transfer-encoding: chunked"]
    for options in ([], chunked, ["-H", "expect: 100-continue"]):
        done = subprocess.run(
            [
                *common,
                *options,
                "-d",
                '{"payload":1}',
                url,
                "--next",
                *common[1:],
                *options,
                "-d",
                '{"payload":2}',
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert [line for line in done.stdout.splitlines() if line.isdecimal()] == ["201", "201"], done.stdout
    with fleet.client(scheduler) as client:
        assert [job["payload"] for job in client.list_jobs()] == [2, 1] * 3


@pytest.mark.skipif(JAVA is None, reason="left out: there is no Java (apt install default-jdk-headless)")
def test_java_submits_with_its_default_client(fleet: Fleet, tmp_path: Path) -> None:
    assert JAVA is not None
    scheduler = fleet.start_scheduler("s1")
    source = tmp_path / "Submit.java"
    source.write_text(SUBMIT)
    done = subprocess.run([JAVA, str(source), scheduler.url], capture_output=True, text=True, check=False, timeout=120)
    if "jdk.compiler" in done.stderr:
        pytest.skip("left out: this Java runs no source files (apt install default-jdk-headless)")
    assert done.stdout.split() == ["201", "201", "201"], done.stderr
