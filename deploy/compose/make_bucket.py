"""Makes the bucket of the lake and the artefacts, once.

In: its name as the first argument, and the address and keys of the store in ``AWS_*``. Out: the bucket. Never: a change to one that is there.
"""

import sys

import s3fs


def main(bucket: str) -> None:
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    if store.exists(bucket):
        print(f"{bucket} is there")
        return
    store.mkdir(bucket, create_parents=True)
    print(f"{bucket} made")


if __name__ == "__main__":
    main(sys.argv[1])
