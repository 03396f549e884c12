"""Checks this folder and docs/operations.md against the code; .ci/deploy installs what it imports and runs it.

Each check is a generator of problems. All are run, and all problems are printed.
"""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import promql_parser
import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OPERATIONS = ROOT / "docs/operations.md"
METRICS = ROOT / "crates/server/src/metrics.rs"
LOOKAHEAD = ROOT / "target/release/lookahead"

# Values of flags that only a machine knows, or that serve.toml shows as an example.
WITHOUT_DEFAULT = {"threads", "isa"}
# Labels that Prometheus adds.
SCRAPE_LABELS = {"job", "instance", "le", "namespace", "pod"}
# Metrics of Prometheus itself.
FOREIGN_METRICS = {"up"}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def skip(what):
    print(f"skipped: {what}")


# What the code says


def metrics():
    """The metrics of metrics.rs: {name: (kind, labels)}, as prometheus-client names them."""
    source = METRICS.read_text()
    prefix = re.search(r'Registry::with_prefix\("(\w+)"\)', source)[1]
    label_sets = {
        name: set(re.findall(r"(\w+):", body))
        for name, body in re.findall(r"struct (\w+Labels?) \{(.*?)\}", source, re.DOTALL)
    }
    fields = dict(re.findall(r"^    (?:pub\(crate\) )?(\w+): ((?:Family|Counter|Gauge|Histogram).*),$", source, re.MULTILINE))
    found = {}
    calls = re.findall(r'\.register(_with_unit)?\(\s*"(\w+)",(.*?)\);\n', source, re.DOTALL)
    for with_unit, name, rest in calls:
        field = re.search(r"self\.(\w+)\.clone\(\)", rest)
        if field:
            kind = fields[field[1]]
        elif "Info::new" in rest:
            kind = "Info"
        else:
            variable = re.search(r"(\w+)$", rest.strip())[1]
            kind = re.search(rf"let {variable} = (Gauge|Counter|Histogram)", source)[1]
        family = re.match(r"Family<(\w+), (\w+)", kind)
        labels = label_sets[family[1]] if family else set()
        kind = (family[2] if family else re.match(r"\w+", kind)[0]).lower()
        if kind == "info":
            labels = set(re.findall(r'\("(\w+)", ', re.search(r"let labels = vec!\[(.*?)\];", source, re.DOTALL)[1]))
        if with_unit:
            name += "_" + re.search(r"Unit::(\w+)", rest)[1].lower()
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        found[f"{prefix}_{name}"] = (kind, labels)
    # `metrics.register(&mut registry)` and the two definitions are no metrics.
    expected = len(re.findall(r"\.register(?:_with_unit)?\(", source)) - 1
    assert len(found) == expected, f"{METRICS}: {len(found)} metrics understood, {expected} registered"
    return found


def series(known):
    """Every name that a query may use."""
    for name, (kind, labels) in known.items():
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            yield name + suffix, labels | SCRAPE_LABELS


def flags():
    """The flags of `lookahead serve` with their defaults (`None` without one), or `None` if there is no program to ask."""
    if not LOOKAHEAD.exists():
        skip(f"flags: there is no {LOOKAHEAD.relative_to(ROOT)}")
        return None
    shown = run(LOOKAHEAD, "serve", "--help")
    if shown.returncode != 0:
        skip(f"flags: {LOOKAHEAD.relative_to(ROOT)} has no `serve`")
        return None
    found = {}
    sections = re.split(r"^ +(?:-\w, )?--(?=[a-z])", shown.stdout, flags=re.MULTILINE)[1:]
    for section in sections:
        default = re.search(r"\[default: (\S+)\]", section)
        found[re.match(r"[a-z-]+", section)[0]] = default[1] if default else None
    return found


# What is checked


def files_parse():
    for path in sorted(DEPLOY.rglob("*")):
        parse = {
            ".yaml": lambda text: list(yaml.safe_load_all(text)),
            ".json": json.loads,
            ".toml": tomllib.loads,
        }.get(path.suffix)
        if parse:
            try:
                parse(path.read_text())
            except Exception as error:  # each parser has its own
                yield f"{path.relative_to(ROOT)}: {error}"


def configuration(text, everything=False):
    """A serve.toml; with the lines that are commented out if `everything` is asked for."""
    if everything:
        text = re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    return tomllib.loads(text)


def serve_toml(known):
    example = (DEPLOY / "serve.toml").read_text()
    everything = configuration(example, everything=True)
    pods = configuration((KUBERNETES / "serve.toml").read_text())
    for key in pods.keys() - everything.keys():
        yield f"deploy/kubernetes/serve.toml: `{key}` is not explained in deploy/serve.toml"
    if known is None:
        return
    for key in everything.keys() - known.keys():
        yield f"deploy/serve.toml: `{key}` is no flag of `lookahead serve`"
    for key in known.keys() - everything.keys() - {"config", "api-key", "help", "verbose", "version"}:
        yield f"deploy/serve.toml: the flag --{key} is missing"
    for key in everything.keys() - configuration(example).keys() - WITHOUT_DEFAULT:
        value, default = everything[key], known.get(key)
        value = str(value).lower() if isinstance(value, bool) else str(value)
        if default is not None and value != default:
            yield f"deploy/serve.toml: `{key}` is {value}, and {default} by default"
    # The program's own opinion: it reads the whole configuration before it looks for keys.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "serve.toml"
        path.write_text(re.sub(r"^#(?=[a-z-]+ = )", "", example, flags=re.MULTILINE))
        missing = f"{directory}/keys"
        said = run(LOOKAHEAD, "serve", "--config", path, "--api-key-file", missing).stderr
        if missing not in said:
            yield f"deploy/serve.toml: `lookahead serve` says: {said.strip()}"


def used_flags():
    """(where, flag) of all files that start the server."""
    unit = (DEPLOY / "lookahead.service").read_text()
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1]
    sources = {
        "deploy/lookahead.service": command,
        "deploy/Dockerfile": (DEPLOY / "Dockerfile").read_text().replace("cargo build --profile dist --locked", ""),
        "docs/operations.md": "\n".join(re.findall(r"`(--[^`\n]+)`", OPERATIONS.read_text())),
    }
    for container in containers():
        sources["deploy/kubernetes/deployment.yaml"] = " ".join(container.get("args", []))
    for where, text in sources.items():
        if where == "deploy/Dockerfile":
            # The program's arguments, and its environment; other flags there are those of other programs.
            for line in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$|^#  +lookahead (--.*)$", text, re.MULTILINE):
                yield from ((where, flag) for flag in re.findall(r"--([a-z][a-z-]+)", " ".join(line)))
        else:
            yield from ((where, flag) for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text))
    for path in [DEPLOY / "Dockerfile", DEPLOY / "lookahead.service", DEPLOY / "serve.toml", OPERATIONS]:
        for name in re.findall(r"LOOKAHEAD_SERVE_([A-Z_]+)", path.read_text()):
            yield path.relative_to(ROOT), name.strip("_").lower().replace("_", "-")


def flags_exist(known):
    used = sorted({(str(where), flag) for where, flag in used_flags()})
    assert len({where for where, _ in used}) >= 4, f"flags were found in {used} only"
    if known is not None:
        for where, flag in used:
            if flag not in known:
                yield f"{where}: --{flag} is no flag of `lookahead serve`"


def dockerfile():
    path = DEPLOY / "Dockerfile"
    linted = run("hadolint", path)
    if linted.returncode != 0:
        yield f"deploy/Dockerfile: {linted.stdout.strip()}{linted.stderr.strip()}"
    text = path.read_text()
    wanted = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    used = re.search(r"^ARG RUST_VERSION=(\S+)", text, re.MULTILINE)[1]
    if tuple(map(int, used.split("."))) < tuple(map(int, wanted.split("."))):
        yield f"deploy/Dockerfile: Rust {used}; Cargo.toml wants {wanted}"
    if not re.search(r"^USER [1-9]\d*", text, re.MULTILINE):
        yield "deploy/Dockerfile: the server would run as root"
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    for source in " ".join(copied).split():
        if not (ROOT / source).exists():
            yield f"deploy/Dockerfile: there is no {source}"
        if f"!{source}" not in sent:
            yield f"deploy/Dockerfile: {source} is not sent, see Dockerfile.dockerignore"


def shutdown_timeout(path, default=30):
    return configuration(path.read_text()).get("shutdown-timeout", default)


def systemd_unit():
    path = DEPLOY / "lookahead.service"
    text = path.read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    if int(settings["TimeoutStopSec"]) < shutdown_timeout(DEPLOY / "serve.toml") + 15:
        yield "deploy/lookahead.service: TimeoutStopSec leaves too little beyond --shutdown-timeout to save what was learned"
    if not shutil.which("systemd-analyze"):
        skip("systemd-analyze verify: it is not here")
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / path.name
        copy.write_text(text.replace("/usr/local/bin/lookahead", sys.executable))
        checked = run("systemd-analyze", "verify", "--man=no", copy)
        # It warns of a setting that it does not know, and succeeds.
        said = [line for line in checked.stderr.splitlines() if path.name in line]
        if checked.returncode != 0 or said:
            yield f"deploy/lookahead.service: {'; '.join(said) or checked.stderr}"


def rendered(components):
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(shutil.copytree(KUBERNETES, Path(directory) / "kubernetes"))
        path = copy / "kustomization.yaml"
        customization = yaml.safe_load(path.read_text())
        customization["components"] = components
        path.write_text(yaml.safe_dump(customization))
        built = run("kubectl", "kustomize", copy)
        assert built.returncode == 0, f"deploy/kubernetes: kubectl kustomize: {built.stderr}"
        return list(yaml.safe_load_all(built.stdout))


def containers():
    deployment = yaml.safe_load((KUBERNETES / "deployment.yaml").read_text())
    return deployment["spec"]["template"]["spec"]["containers"]


def kubernetes(known_metrics):
    for components in [[], ["persistent-drafts"]]:
        objects = rendered(components)
        by_name = {(item["kind"], item["metadata"]["name"]) for item in objects}
        kinds = {item["kind"]: item for item in objects}
        for item in objects:
            try:
                kubernetes_validate.validate(item, "1.37", strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield f"deploy/kubernetes: {item['kind']} {item['metadata']['name']}: {path}: {error.message}"
        pod = kinds["Deployment"]["spec"]["template"]["spec"]
        labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
        selectors = {
            "Deployment": kinds["Deployment"]["spec"]["selector"]["matchLabels"],
            "Service": kinds["Service"]["spec"]["selector"],
            "NetworkPolicy": kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        }
        for kind, selector in selectors.items():
            if not selector or not selector.items() <= labels.items():
                yield f"deploy/kubernetes: {kind}: its selector does not find the pods"
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and ("PersistentVolumeClaim", claim) not in by_name:
                yield f"deploy/kubernetes: there is no claim {claim}"
            config = volume.get("configMap", {}).get("name")
            if config and ("ConfigMap", config) not in by_name:
                yield f"deploy/kubernetes: there is no config map {config}"
        volumes = {volume["name"] for volume in pod["volumes"]}
        container = pod["containers"][0]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        if volumes != mounts.keys():
            yield f"deploy/kubernetes: volumes and mounts differ: {volumes ^ mounts.keys()}"
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        settings = configuration((KUBERNETES / "serve.toml").read_text())
        if ports != {"http": settings["port"]}:
            yield f"deploy/kubernetes: ports {ports}, and `port` is {settings['port']}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container[probe]["httpGet"] != {"path": "/health", "port": "http"}:
                yield f"deploy/kubernetes: {probe} does not ask /health"
        for key in ("model", "api-key-file", "drafts-dir"):
            if not any(settings[key].startswith(f"{path}/") for path in mounts.values()):
                yield f"deploy/kubernetes: `{key}` lies in no volume"
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause + shutdown_timeout(KUBERNETES / "serve.toml") + 15
        if pod["terminationGracePeriodSeconds"] < needed:
            yield f"deploy/kubernetes: terminationGracePeriodSeconds is below {needed}"
        scaler = kinds.get("HorizontalPodAutoscaler")
        names = [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]] if scaler else []
        rules = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
        for name in names:
            if name not in [rule["name"]["as"] for rule in rules]:
                yield f"deploy/kubernetes/prometheus-adapter.yaml: no rule makes {name}"
        for name in names + [re.match(r"\w+", rule["seriesQuery"])[0] for rule in rules]:
            if name not in known_metrics:
                yield f"deploy/kubernetes: there is no metric {name}"


def fleet():
    """Files for fleets of other hosts: schemas, claims, the settings, and that all name the same files."""
    folder = DEPLOY / "fleet"
    linted = run("hadolint", folder / "Dockerfile")
    if linted.returncode != 0:
        yield f"deploy/fleet/Dockerfile: {linted.stdout.strip()}{linted.stderr.strip()}"
    objects = [(path, item) for path in sorted(folder.glob("*.yaml")) for item in yaml.safe_load_all(path.read_text())]
    for path, item in objects:
        try:
            kubernetes_validate.validate(item, "1.37", strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            yield f"{path.relative_to(ROOT)}: {item['kind']} {item['metadata']['name']}: {where}: {error.message}"
    by_kind = {(item["kind"], item["metadata"]["name"]): item for _, item in objects}
    settings = tomllib.loads(by_kind["ConfigMap", "lookahead"]["data"]["lookahead.toml"])
    python = (ROOT / "crates/py/python/lookahead_drafts/settings.py").read_text()
    for name in settings:
        if not re.search(rf"^    {name}: ", python, re.MULTILINE):
            yield f"deploy/fleet/drafts.yaml: there is no setting {name}"
    job = by_kind["CronJob", "merge-drafts"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    *_, merged, pattern = job["command"]
    if settings["corpora"] != [merged]:
        yield f"deploy/fleet/drafts.yaml: {merged} is merged, and {settings['corpora']} are drafted from"
    for name in ("vllm", "sglang"):
        spec = by_kind["StatefulSet", name]["spec"]["template"]["spec"]
        container = spec["containers"][0]
        snapshot = next(item["value"] for item in container["env"] if item["name"] == "LOOKAHEAD_SNAPSHOT")
        if not fnmatch.fnmatch(snapshot.replace("$(POD_NAME)", "pod-0"), pattern):
            yield f"deploy/fleet/{name}.yaml: {snapshot} is not merged by {pattern}"
        if {volume["name"] for volume in spec["volumes"]} != {mount["name"] for mount in container["volumeMounts"]}:
            yield f"deploy/fleet/{name}.yaml: volumes and mounts differ"


def query(where, text, known):
    """Problems of a PromQL query."""
    text = re.sub(r"\$__(rate_interval|range|interval)", "5m", text)
    try:
        promql_parser.parse(text)
    except ValueError as error:
        yield f"{where}: {text}: {error}"
        return
    bare = re.sub(r'"[^"]*"', '""', text)
    named = re.findall(r"\b(lookahead_\w+)(?:\{([^}]*)\})?", bare)
    others = set(re.findall(r"\b([a-z_]\w*)\{", bare)) - FOREIGN_METRICS
    for name in others - {name for name, _ in named}:
        yield f"{where}: {name} is no metric of ours"
    if not named and not any(re.search(rf"\b{name}\b", bare) for name in FOREIGN_METRICS):
        yield f"{where}: {text}: no metric"
    allowed = set(SCRAPE_LABELS)
    for name, selectors in named:
        if name not in known:
            yield f"{where}: there is no metric {name}"
            continue
        allowed |= known[name]
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors):
            if label not in known[name]:
                yield f"{where}: {name} has no label {label}"
    for labels in re.findall(r"\bby \(([^)]*)\)", bare):
        for label in re.split(r",\s*", labels):
            if label not in allowed:
                yield f"{where}: no metric of the query has a label {label}"


def dashboard(known):
    where = "deploy/grafana/lookahead.json"
    board = json.loads((DEPLOY / "grafana/lookahead.json").read_text())
    for field in ("title", "uid", "schemaVersion", "panels", "templating", "time"):
        if field not in board:
            yield f"{where}: no {field}"
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource":
        yield f"{where}: no variable for the data source"
    for name, variable in variables.items():
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            yield from query(f"{where}: variable {name}", selector[1], known)
    panels = board["panels"]
    if len({panel["id"] for panel in panels}) != len(panels):
        yield f"{where}: panels have ids twice"
    taken = {}
    for panel in panels:
        title, grid = panel["title"], panel["gridPos"]
        if grid["x"] + grid["w"] > 24:
            yield f"{where}: {title}: wider than the page"
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            if cell in taken:
                yield f"{where}: {title} covers {taken[cell]}"
                break
            taken[cell] = title
        if panel["type"] == "row":
            continue
        if not panel.get("targets") or not panel.get("description"):
            yield f"{where}: {title}: no query, or no description"
        if len({target["refId"] for target in panel["targets"]}) != len(panel["targets"]):
            yield f"{where}: {title}: a refId twice"
        for part in [panel, *panel["targets"]]:
            if part.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{where}: {title}: another data source than the variable's"
        for target in panel["targets"]:
            yield from query(f"{where}: {title}", target["expr"], known)
            for name in re.findall(r"\$(\w+)", target["expr"]):
                if name not in variables and not name.startswith("__"):
                    yield f"{where}: {title}: no variable {name}"
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
                if grouped and not any(label in labels.split(", ") for labels in grouped):
                    yield f"{where}: {title}: the legend names {label}, which the query drops"
    shown = json.dumps(board)
    for name in known:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if base not in shown:
            yield f"{where}: {base} is on no panel"


def alerts(known):
    folder = DEPLOY / "prometheus"
    groups = yaml.safe_load((folder / "alerts.yaml").read_text())["groups"]
    tested = (folder / "alerts.test.yaml").read_text()
    for rule in (rule for group in groups for rule in group["rules"]):
        where = f"deploy/prometheus/alerts.yaml: {rule['alert']}"
        yield from query(where, rule["expr"], known)
        if not {"summary", "description"} <= rule.get("annotations", {}).keys() or "severity" not in rule["labels"]:
            yield f"{where}: it wants a summary, a description and a severity"
        if tested.count(f"alertname: {rule['alert']},") != 1 or tested.count(f'alertname="{rule["alert"]}"') != 1:
            yield f"{where}: no test of when it fires and when it does not"
    if not shutil.which("promtool"):
        skip("promtool check rules, promtool test rules: it is not here")
        return
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        checked = run("promtool", *command, cwd=folder)
        if checked.returncode != 0:
            yield f"promtool {' '.join(command)}: {checked.stdout}{checked.stderr}"


def operations(known_metrics):
    text = OPERATIONS.read_text()
    listed = dict(re.findall(r"^\| `(lookahead_\w+)(?:\{[^}]*\})?` \| (\w+) \|", text, re.MULTILINE))
    for name, (kind, labels) in known_metrics.items():
        if name not in listed:
            yield f"docs/operations.md: {name} is not in the table of metrics"
        elif listed[name] != kind:
            yield f"docs/operations.md: {name} is a {kind}, not a {listed[name]}"
        else:
            shown = re.search(rf"^\| `{name}(?:\{{([^}}]*)\}})?` ", text, re.MULTILINE)[1]
            if set(re.findall(r"\w+", shown or "")) != labels:
                yield f"docs/operations.md: {name} has the labels {sorted(labels)}"
    for name in listed.keys() - known_metrics.keys():
        yield f"docs/operations.md: there is no metric {name}"
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target and not (OPERATIONS.parent / target).exists():
            yield f"docs/operations.md: there is no {target}"
    for path in re.findall(r"`(deploy/[\w./-]+)`", text):
        if not (ROOT / path).exists():
            yield f"docs/operations.md: there is no {path}"


def main():
    problems = list(files_parse())
    if not problems:
        known_flags, known_metrics = flags(), metrics()
        known_series = dict(series(known_metrics))
        for check in (
            serve_toml(known_flags),
            flags_exist(known_flags),
            dockerfile(),
            systemd_unit(),
            kubernetes(known_metrics),
            fleet(),
            dashboard(known_series),
            alerts(known_series),
            operations(known_metrics),
        ):
            try:
                problems.extend(check)
            except Exception as error:  # what a check expects to find is not there
                problems.append(f"{check.__name__}: {type(error).__name__}: {error}")
        print(f"{len(known_metrics)} metrics" + (f", {len(known_flags)} flags" if known_flags else ""))
    for problem in problems:
        print(f"problem: {problem}")
    sys.exit(f"{len(problems)} problems" if problems else 0)


if __name__ == "__main__":
    main()
