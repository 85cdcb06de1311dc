"""YAML files for the tests, as JSON.

manifests.py read FILE…      {"FILE": [document, …], …}
manifests.py judge FILE…     {"faults": [what is wrong by the schemas of Kubernetes], "unknown": [kinds without a schema there]}
"""

import json
import sys

import yaml

# The one in C where it was built: it is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.load_all(file, LOADER) if document is not None]


def judge(paths):
    import kubernetes_validate

    faults, unknown = [], []
    for path in paths:
        for document in documents(path):
            name = f"{path}: {document['kind']} {document.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(document, VERSION, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unknown.append(document["kind"])
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{name}: {error}")
    return {"faults": faults, "unknown": unknown}


# The oldest that the manifests are for.
VERSION = "1.29"

what, paths = sys.argv[1], sys.argv[2:]
answer = judge(paths) if what == "judge" else {path: documents(path) for path in paths}
json.dump(answer, sys.stdout)
