"""What the cluster holds, against what the placed pipeline asks for: configuration, secrets, quota, GPUs, images."""

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from pipelines.placement import CONFIG, CONFIG_KEYS, REGISTRY_SECRET, STORE_SECRET, TRUST, Placement
from pipelines.preflight import Finding, Unknown, look

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

MANIFEST_TYPES = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
MANIFEST_TYPES += "application/vnd.docker.distribution.manifest.list.v2+json, "
MANIFEST_TYPES += "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_MAPS: Mapping[str, tuple[str, ...]] = {
    CONFIG: CONFIG_KEYS,
    TRUST: ("policy.json", "release-keys.pem", "reviewers.json"),
    "kfp-launcher": ("defaultPipelineRoot",),
}
Places = Mapping[str, Placement]


def look_at_cluster(core: "CoreV1Api", namespace: str, places: Places, account: str) -> Iterator[Finding]:
    """Every object that the pipeline's steps refer to, and room for them."""
    for name, keys in CONFIG_MAPS.items():
        yield look(f"config map {name}", lambda n=name, k=keys: _keys(core.read_namespaced_config_map, n, namespace, k))  # type: ignore[misc]
    for name, keys in wanted_secrets(places).items():
        yield look(f"secret {name}", lambda n=name, k=keys: _keys(core.read_namespaced_secret, n, namespace, k))  # type: ignore[misc]
    if account:
        yield look(
            f"service account {account}", lambda: _there(core.read_namespaced_service_account, account, namespace)
        )
    yield look("quota", lambda: quota(core, namespace, places))
    yield look("GPUs", lambda: gpus(core, places))


def look_at_images(images: Mapping[str, str]) -> Iterator[Finding]:
    """Every image that the compiled pipeline names is in its registry."""
    for kind, reference in images.items():
        yield look(f"image {kind}", lambda r=reference: image(r))  # type: ignore[misc]


def core_api(context: str = "") -> "CoreV1Api":
    """The cluster's API, from the pod's own account or a kubeconfig.

    Raises:
        MissingCapability: neither is there.
    """
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config(context=context or None)
        except (config.ConfigException, OSError) as fault:
            raise MissingCapability(f"no cluster: {fault}; expected a kubeconfig, or to run in a pod") from fault
    return client.CoreV1Api()


def wanted_secrets(places: Places) -> dict[str, tuple[str, ...]]:
    """Keys that the steps read, by secret."""
    wanted: dict[str, tuple[str, ...]] = {name: tuple(keys) for name, keys in STORE_SECRET.items()}
    if any(it.environment == "registry" for it in places.values()):
        wanted |= {name: tuple(keys) for name, keys in REGISTRY_SECRET.items()}
    return wanted | {it.signing_secret: ("private_key.pem",) for it in places.values() if it.signing_secret}


def quota(core: "CoreV1Api", namespace: str, places: Places) -> str:
    """The largest step fits into what the namespace has left.

    Raises:
        MissingCapability: it does not, and would wait for ever.
    """
    asked = {
        "requests.cpu": max(Decimal(it.cpu_cores) for it in places.values()),
        "requests.memory": max(Decimal(it.memory_gib) * 2**30 for it in places.values()),
        "requests.nvidia.com/gpu": max(Decimal(it.gpus) for it in places.values()),
    }
    quotas = _ask(lambda: core.list_namespaced_resource_quota(namespace)).items
    for one in quotas:
        status = one.status or one
        for key, amount in asked.items():
            if key in (status.hard or {}):
                left = _number(status.hard[key]) - _number((status.used or {}).get(key, "0"))
                if amount > left:
                    raise MissingCapability(f"{one.metadata.name}: {left} {key} left, the largest step asks {amount}")
    return f"{len(quotas)} quotas leave room" if quotas else "none set"


def gpus(core: "CoreV1Api", places: Places) -> str:
    """Some node has the GPUs of the largest step, and its labels.

    Raises:
        MissingCapability: no such node.
    """
    largest = max(places.values(), key=lambda it: it.gpus)
    if not largest.gpus:
        return "none asked for"
    selector = ",".join(f"{key}={value}" for key, value in largest.node_selector.items())
    nodes = _ask(lambda: core.list_node(label_selector=selector)).items
    has = [int((node.status.allocatable or {}).get(largest.gpu_type, "0")) for node in nodes]
    fitting = sum(count >= largest.gpus for count in has)
    if not fitting:
        told = f"nodes with {selector or 'any label'} have {sorted(has, reverse=True) or 'none'}"
        raise MissingCapability(f"{told}, expected one with {largest.gpus} {largest.gpu_type}")
    return f"{fitting} nodes have {largest.gpus} {largest.gpu_type}"


def image(reference: str) -> str:
    """The image is in its registry.

    Raises:
        InvalidInput: it names no registry, or the registry has no such image.
        ServiceFault: the registry does not answer.
    """
    match = re.fullmatch(
        r"(?P<host>[\w.-]+(?:\.|:)[\w.:-]*[\w])/(?P<name>[\w./-]+?)(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))",
        reference,
    )
    if not match:
        raise InvalidInput(
            f"{reference}: names no registry; set YANSHAN_IMAGE_REGISTRY, or YANSHAN_IMAGE_<KIND> by digest"
        )
    scheme = "http" if match["host"].split(":")[0] in ("localhost", "127.0.0.1") else "https"
    address = f"{scheme}://{match['host']}/v2/{match['name']}/manifests/{match['digest'] or match['tag']}"
    try:
        urllib.request.urlopen(
            urllib.request.Request(address, method="HEAD", headers={"Accept": MANIFEST_TYPES}), timeout=10
        )
    except urllib.error.HTTPError as answered:
        if answered.code in (401, 403):
            raise Unknown(f"{reference}: the registry asks for a login") from answered
        if answered.code == 404:
            raise InvalidInput(f"{reference}: not in the registry; `make images`, then push") from answered
        raise ServiceFault(f"{reference}: the registry answered {answered.code}") from answered
    except OSError as fault:
        raise ServiceFault(f"{reference}: {fault}") from fault
    return reference


def _keys(read: Callable[..., Any], name: str, namespace: str, keys: tuple[str, ...]) -> str:
    thing = _ask(lambda: read(name, namespace), name)
    missing = sorted(set(keys) - (thing.data or {}).keys())
    if missing:
        raise InvalidInput(f"{name}: no {', '.join(missing)} in namespace {namespace}; has {sorted(thing.data or {})}")
    return ", ".join(keys)


def _there(read: Callable[..., Any], name: str, namespace: str) -> str:
    _ask(lambda: read(name, namespace), name)
    return "is there"


def _ask(call: Callable[[], Any], name: str = "") -> Any:
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        return call()
    except ApiException as fault:
        if fault.status == 404:
            raise InvalidInput(f"{name}: not in the cluster; kubectl apply -k manifests/overlays/...") from fault
        if fault.status in (401, 403):
            raise Unknown("no right to look") from fault
        raise ServiceFault(f"the cluster answered {fault.status} {fault.reason}") from fault
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        raise ServiceFault(f"the cluster does not answer: {fault}") from fault


def _number(quantity: str) -> Decimal:
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity))
