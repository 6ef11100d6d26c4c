"""`finetune`: the same manifests on this machine and in CI pipelines, without a cluster."""
