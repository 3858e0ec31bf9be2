"""Ray over hosts with TLS: each host has a certificate of its own, with its address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from certificates import Authority
from hosts import Host
from ray_hosts import RayOnHosts


def issue(authority: Authority, host: Host) -> dict[str, str]:
    """Give a host a new certificate; returns Ray's variables for it."""
    return authority.issue(host.name, ips=(host.ip, "127.0.0.1"))


def start_encrypted_ray(
    hosts: Sequence[Host], authority: Authority, variables: Mapping[str, str] | None = None
) -> RayOnHosts:
    """Start Ray on hosts; `environment` is that of a driver on the first."""
    cluster = RayOnHosts(hosts[:1], variables={**(variables or {}), **issue(authority, hosts[0])})
    own = dict(cluster.environment)
    for host in hosts[1:]:
        cluster.environment.update(issue(authority, host))
        cluster.add([host])
    cluster.environment = own
    return cluster
