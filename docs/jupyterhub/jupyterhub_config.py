"""An example hub for a class: one container of the course's image for each participant."""

c = get_config()  # noqa: F821 (JupyterHub provides it)

c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.image = "small-transformers"
c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
c.DockerSpawner.notebook_dir = "/course"
c.DockerSpawner.volumes = {"work-{username}": "/course/my-work"}
c.DockerSpawner.remove = True

c.Spawner.default_url = "/lab/tree/welcome.ipynb"
c.Spawner.cpu_limit = 2
c.Spawner.mem_limit = "4G"
c.Spawner.environment = {"OMP_NUM_THREADS": "2"}

c.JupyterHub.hub_ip = "0.0.0.0"  # containers reach the hub over Docker's network
c.JupyterHub.hub_connect_ip = "127.0.0.1"  # the proxy runs beside the hub
c.Spawner.hub_connect_url = "http://host.docker.internal:8081"  # what containers call this server
c.DockerSpawner.extra_host_config = {"extra_hosts": {"host.docker.internal": "host-gateway"}}

c.JupyterHub.authenticator_class = "native"
c.Authenticator.admin_users = {"lecturer"}
c.Authenticator.allow_all = True  # everybody whom the lecturer has authorized
