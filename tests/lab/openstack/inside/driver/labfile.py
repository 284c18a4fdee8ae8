# SPDX-License-Identifier: Apache-2.0
"""A Cinder driver for which a volume is a sparse file, where neither LVM nor iSCSI nor NFS can be had.

Nova is told that the volume is of GPFS, because it attaches those as plain files; its fake driver does not look.
"""

import os
import pathlib

from cinder.image import image_utils
from cinder.volume import driver
from oslo_concurrency import processutils

DIRECTORY = pathlib.Path("/run/wlcloud/volumes")
GIB = 1 << 30


def path(item):
    return DIRECTORY / item.name


def copy(source, target, gib):
    processutils.execute("cp", "--sparse=always", "--reflink=auto", source, target)
    os.truncate(target, gib * GIB)


class LabFileDriver(driver.VolumeDriver):
    VERSION = "1"

    def do_setup(self, context):
        DIRECTORY.mkdir(parents=True, exist_ok=True)

    def check_for_setup_error(self):
        pass

    def create_volume(self, volume):
        path(volume).touch()
        os.truncate(path(volume), volume.size * GIB)

    def delete_volume(self, volume):
        path(volume).unlink(missing_ok=True)

    def extend_volume(self, volume, new_size):
        os.truncate(path(volume), new_size * GIB)

    def create_snapshot(self, snapshot):
        copy(path(snapshot.volume), path(snapshot), snapshot.volume_size)

    def delete_snapshot(self, snapshot):
        path(snapshot).unlink(missing_ok=True)

    def create_volume_from_snapshot(self, volume, snapshot):
        copy(path(snapshot), path(volume), volume.size)

    def create_cloned_volume(self, volume, src_vref):
        copy(path(src_vref), path(volume), volume.size)

    def copy_image_to_volume(self, context, volume, image_service, image_id, disable_sparse=False):
        block = self.configuration.volume_dd_blocksize
        image_utils.fetch_to_raw(context, image_service, image_id, str(path(volume)), block, size=volume.size)
        os.truncate(path(volume), volume.size * GIB)

    def copy_volume_to_image(self, context, volume, image_service, image_meta):
        image_utils.upload_volume(context, image_service, image_meta, str(path(volume)), volume)

    def initialize_connection(self, volume, connector):
        data = {"device_path": str(path(volume)), "name": volume.name, "volume_id": volume.id}
        return {"driver_volume_type": "gpfs", "data": data}

    def terminate_connection(self, volume, connector, **kwargs):
        pass

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def _update_volume_stats(self):
        pool = {"pool_name": "lab", "total_capacity_gb": 1000, "free_capacity_gb": 900, "reserved_percentage": 0}
        self._stats = {
            "volume_backend_name": "lab",
            "vendor_name": "lab",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "multiattach": False,
            "pools": [{**pool, "QoS_support": False}],
        }
